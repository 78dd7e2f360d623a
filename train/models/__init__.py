"""One file per method, and the parts that methods share."""
