"""Stage 1: images -> `features.zarr`, the feature store."""
