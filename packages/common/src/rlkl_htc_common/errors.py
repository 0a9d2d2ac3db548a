"""The exception for input that cannot be used."""


class InputError(ValueError):
    """Something that the user gave is wrong: the message says what, where, and what to do about it."""
