"""The demo data set: drawn scenes with labels and synthetic word vectors."""
