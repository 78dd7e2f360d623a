"""Stage 2: `features.zarr` -> trained runs."""
