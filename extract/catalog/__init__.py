"""The catalog as frozen specifications of data sets, word vectors and weights."""
