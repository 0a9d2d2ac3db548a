"""The report of a reproduction: how weightings of the KL compare."""
