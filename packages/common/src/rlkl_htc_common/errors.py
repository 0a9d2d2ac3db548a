"""The exception for input that cannot be used."""


class InputError(ValueError):
    """The user's input is wrong. The message says what, where, and what to do."""
