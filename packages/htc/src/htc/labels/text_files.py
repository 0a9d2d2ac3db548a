"""Read users' text files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rlkl_htc_common.errors import InputError

SAVE = "save its content as CSV, JSON or plain text in UTF-8."
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# The first bytes of files that are not text, and their kinds.
SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive, as .xlsx, .docx and .ods files are"),
    (b"\xd0\xcf\x11\xe0", "an old .xls or .doc file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3", "a SQLite database"),
)
MARKED_UP = ((b"%PDF-", "a PDF file"), (b"{\\rtf", "an RTF file"))  # their bytes may be valid text


def read_text(file: Path, what: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Args:
        what: its name in errors, e.g. `the taxonomy`.

    Raises:
        InputError: if the file cannot be read or is not text; with the line, if it has another encoding.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot read {what}: {error.strerror}.") from error
    return decoded(content, str(file), what)


def lines_of(text: str) -> list[str]:
    """The lines of a text, split at line feeds, or at carriage returns if there is no line feed."""
    return text.split("\n" if "\n" in text else "\r")


def decoded(content: bytes, source: str, what: str) -> str:
    """Decode bytes to text. Args: source: their origin; what: see `read_text`. Raises InputError likewise."""
    for signature, kind in MARKED_UP:
        if content.startswith(signature):
            raise InputError(f"{source}: this is {kind} and no plain text; {SAVE}")
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        refuse_archive(content, source)
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{source}:{line}: {what} is not UTF-8 text; save it as UTF-8.") from error
    if "\0" in text:
        refuse_archive(content, source)
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{source}:{line}: {what} holds a NUL character, so that it is no text; save it as UTF-8 text.")
    return text


def decoded_lines(lines: Iterable[bytes], source: str, what: str) -> Iterator[tuple[int, str]]:
    """Decode lines as they come, each with its number from 1. Text in UTF-16 is read as a whole first.

    Args: lines: with their ends; source, what: see `decoded`. Raises InputError likewise.
    """
    lines = iter(lines)
    first = next(lines, b"")
    if first.startswith(UTF16_MARKS):  # other line ends
        yield from enumerate(_with_ends(decoded(first + b"".join(lines), source, what)), start=1)
        return
    yield from enumerate(_with_ends(decoded(first, source, what)), start=1)  # several if the file has no line feed
    for number, line in enumerate(lines, start=2):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            refuse_archive(first, source)
            raise InputError(f"{source}:{number}: {what} is not UTF-8 text; save it as UTF-8.") from error
        if "\0" in text:
            refuse_archive(first, source)
            raise InputError(f"{source}:{number}: {what} holds a NUL character, so that it is no text; save it as UTF-8 text.")
        yield number, text


def _with_ends(text: str) -> list[str]:
    end = "\n" if "\n" in text else "\r"
    lines = [f"{line}{end}" for line in lines_of(text)]
    return [*lines[:-1], lines[-1].removesuffix(end)] if lines[-1] != end else lines[:-1]


def refuse_archive(content: bytes, source: str) -> None:
    """Raise InputError if bytes begin like a known file that is not text. Args: see `decoded`."""
    kind = next((kind for signature, kind in SIGNATURES if content.startswith(signature)), None)
    if kind is not None:
        raise InputError(f"{source}: this is {kind}, and no text; unpack it, or {SAVE}")
