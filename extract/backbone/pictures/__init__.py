"""An image file -> the pixels that a backbone sees: decode, turn upright, scale to 8 bits, cut and resize."""
