"""Training the backbone together with the head, from images."""
