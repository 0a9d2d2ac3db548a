"""Training: the loop, its checkpoints, its batches."""
