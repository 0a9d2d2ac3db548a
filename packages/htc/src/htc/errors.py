"""The one exception of the library for input that cannot be used."""


class InputError(ValueError):
    """Something that the user gave is wrong: the message says what, where, and what to do about it."""


class UnsuitableTargetsError(InputError):
    """An objective is not defined for the labels of a document. Args: document: its row; problem: what is wrong."""

    def __init__(self, document: int, problem: str) -> None:
        super().__init__(f"document {document}: {problem}")
        self.document = document
        self.problem = problem
