"""A trained run put to work: labels for anybody's pictures, and exported models."""
