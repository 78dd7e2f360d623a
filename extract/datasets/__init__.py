"""Readers of official files: each takes a DatasetSpec and gives a Manifest."""
