"""Training on several devices, with torch.distributed."""
