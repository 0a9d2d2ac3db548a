"""The manifest of a saved model: a SHA-256 digest of each file, to detect changes before the model is used.

manifest.json    {"sha256": {"config.json": "9f86d0...", "encoder/model.safetensors": "60303a..."}}

It is written last. While a model is being saved it holds {"sha256": null}, so that a partly saved model is refused too. Files
that it does not name, such as a README, are allowed. To accept a model that was changed on purpose:

python -m rlkl_htc_common.manifest FOLDER
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl_htc_common.cli.program import begin

    begin("rlkl-htc-common")


import hashlib
import json
import logging
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import write_json

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CONFIG = "config.json"  # every folder of a model has it


@contextmanager
def sealed(folder: Path) -> Iterator[None]:
    """Save a model inside the block. The manifest is valid only after the block: a killed process leaves an invalid one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, {"sha256": None})
    yield
    _write(folder, _files_of(folder))


def check_manifest(folder: Path, required: Iterable[str]) -> None:
    """Compare the files of a model with its manifest; a model without one (from an earlier version) gets a warning.

    Args:
        required: names of files that must be in the manifest.

    Raises:
        InputError: if a file is missing or changed, or the manifest is damaged or unfinished.
    """
    if not (folder / MANIFEST).exists():
        log.warning(
            "%s has no %s, so that a damaged file in it goes unnoticed; if the model is as it should be, write one: %s",
            folder,
            MANIFEST,
            accepting(folder),
        )
        return
    digests = _read(folder)
    unnamed = [name for name in required if name not in digests]
    problems = [f"{name} is {f'not named in {MANIFEST}' if (folder / name).exists() else 'missing'}" for name in unnamed]
    problems += [problem for name, digest in digests.items() if (problem := _problem(folder / name, name, digest))]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        shown = "; ".join(problems[:3]) + more
        raise InputError(f"{folder}: the saved model is damaged or was changed: {shown}. {_advice(folder)}")


def accept(folder: Path) -> str:
    """Write the manifest of a model as it is now. Returns: the changes, as text. Raises InputError if it is not a model."""
    if not (folder / CONFIG).is_file():
        within = folder / "model"
        hint = f"; did you mean {within}?" if (within / CONFIG).is_file() else "."
        raise InputError(f"{folder} is not the folder of a saved model: it has no {CONFIG}{hint}")
    try:
        before = _read(folder)
    except InputError:  # none, or a damaged one
        before = {}
    after = _write(folder, _files_of(folder))
    changes = {
        "changed": [name for name in after if before.get(name, after[name]) != after[name]],
        "new": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
    }
    lists = [f"{word}: {', '.join(names)}" for word, names in changes.items() if names]
    return "; ".join([f"{folder / MANIFEST}: {len(after)} files", *(lists or ["none has changed"])])


def _files_of(folder: Path) -> list[Path]:
    """The files of a model, in its folder and in subfolders that hold a model; without hidden files and READMEs."""
    folders = [folder, *sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))]
    files = [file for within in folders for file in sorted(within.iterdir()) if file.is_file()]
    named = [file for file in files if file.name.isprintable() and not file.name.startswith((".", "README"))]
    return [file for file in named if file != folder / MANIFEST]


def _write(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    digests = {file.relative_to(folder).as_posix(): _digest(file) for file in files}
    write_json(folder / MANIFEST, {"sha256": digests})
    return digests


def _read(folder: Path) -> dict[str, str]:
    """The digests in a manifest, by name. Raises InputError if it is damaged or a name points outside the folder."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        if digests is None:
            raise InputError(f"{folder}: the model was not saved to its end; give the command that made it again.")
        if not isinstance(digests, dict) or not all(_is_inside(name) and isinstance(d, str) for name, d in digests.items()):
            raise TypeError("it holds no digests")
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{folder / MANIFEST} is damaged ({reason:.200}). {_advice(folder)}") from error
    return digests


def _is_inside(name: str) -> bool:
    """Whether a name in a manifest is on one line and points inside the folder."""
    path = PurePosixPath(name)
    return name.isprintable() and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _problem(file: Path, name: str, digest: str) -> str | None:
    """What is wrong with a file; None if nothing is."""
    try:
        if not file.is_file():  # never read from a device
            return f"{name}, which {MANIFEST} names, is missing"
        return None if _digest(file) == digest else f"{name} is not as {MANIFEST} says"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _advice(folder: Path) -> str:
    return f"Take it from a copy, or make it again; if it was changed on purpose, accept it as it is: {accepting(folder)}"


def accepting(folder: Path) -> str:
    """The command that accepts the model in a folder as it is."""
    return f"python -m rlkl_htc_common.manifest {shlex.quote(str(folder))}"


def main() -> None:
    """The entry point."""
    from rlkl_htc_common.commands.application import BAD_INPUT, print_result  # here: the import takes a second

    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print_result(str(__doc__))
        return
    try:
        if len(arguments) != 1:
            raise InputError("expected the folder of one saved model: python -m rlkl_htc_common.manifest FOLDER")
        print_result(accept(Path(arguments[0])))
    except InputError as error:
        print(f"manifest: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except OSError as error:
        print(f"manifest: {error.filename}: cannot read or write: {error.strerror}.", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
