"""Commands: how they begin, what they are told, how they fail, and the grids of jobs that some of them do."""
