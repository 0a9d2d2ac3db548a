"""Where a model is unsure, where it goes wrong, and what fine-tuning does to both."""
