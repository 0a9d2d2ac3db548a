"""Reading the files that users write."""

from pathlib import Path

from htc.errors import InputError


def read_text(file: Path, what: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Args:
        what: what to call it in an error, `the taxonomy` say.

    Raises:
        InputError: for a file that cannot be read; with its line for one in another encoding.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot read {what}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{file}:{line}: {what} is not UTF-8 text; save it as UTF-8.") from error
