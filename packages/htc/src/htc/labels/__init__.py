"""Labels: the hierarchy, its taxonomy file, and label sets as tensors."""
