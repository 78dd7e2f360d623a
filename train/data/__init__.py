"""Feature store -> shuffled batches."""
