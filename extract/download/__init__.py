"""`c3 fetch`: official files and images, whole and verified."""
