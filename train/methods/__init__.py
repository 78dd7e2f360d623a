"""One file per method; `train/registry.py` lists them in table order."""
