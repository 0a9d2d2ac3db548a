"""The weighted KL in other people's trainers. Each module here needs the trainer's package, and nothing else imports it."""
