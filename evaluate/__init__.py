"""Stage 3: trained runs -> numbers, with intervals."""
