"""The command line: plain text and Hydra's grammar, schemas, signals, the program's name."""
