"""CONTRACT 1: the feature store. numpy and zarr only, no torch."""
