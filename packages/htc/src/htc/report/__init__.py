"""The report of a reproduction: which objective wins, under which metric and rule."""
