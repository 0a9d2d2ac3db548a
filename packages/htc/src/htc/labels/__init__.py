"""Labels: their hierarchy, its taxonomy file, and sets of them as tensors."""
