"""Readers of data sets: each turns the files that a catalog entry describes into a Manifest."""
