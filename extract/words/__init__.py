"""Class names -> word vectors."""
