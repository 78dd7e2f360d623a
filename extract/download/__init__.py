"""`c3 fetch`: download official files and images, and verify them."""
