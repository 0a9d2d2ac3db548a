"""Commands: how they begin, what they read on their lines, how they are interrupted, and how they fail."""
