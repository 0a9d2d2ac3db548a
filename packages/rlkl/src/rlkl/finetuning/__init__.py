"""Fine-tuning with reinforcement learning: experience, and what is learnt from it."""
