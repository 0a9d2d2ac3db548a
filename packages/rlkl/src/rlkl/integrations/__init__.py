"""The weighted KL in trainers of other packages. Each module needs the trainer's package; no other module imports them."""
