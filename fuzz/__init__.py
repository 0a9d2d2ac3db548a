"""Fuzzing: broken files for every reader. `make fuzz`, or `python -m fuzz [SECONDS_EACH] [TARGET ...]`."""
