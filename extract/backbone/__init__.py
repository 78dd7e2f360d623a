"""A backbone by its name, and the pixels that it sees of a picture."""
