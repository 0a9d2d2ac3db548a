"""What a command line is: text and Hydra's grammar, schemas, signals, the program's name."""
