"""Commands: start-up, arguments, errors, and grids of jobs."""
