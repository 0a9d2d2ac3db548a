"""Records as JSON and back: what a report is drawn from has types, and its file stays one that people can read.

A record is a dataclass or a NamedTuple whose fields are numbers, texts, other records, and lists, tuples and dicts of these.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Self, TypeVar, cast, get_args, get_origin, get_type_hints, is_typeddict

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.run_list import ListedRun, list_runs
from rlkl_htc_common.runs.directory import read_json, write_json

Record = TypeVar("Record")
SUMMARY = "summary.json"  # what the report of a grid is drawn from


def as_plain(value: Any) -> Any:
    """A record as JSON has it; NaN, which JSON does not have, is null."""
    if is_dataclass(value):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_record(kind: type[Record], plain: Any, where: str) -> Record:
    """The record that `as_plain` gave; keys that it does not know are passed over.

    Args: where: what to call the data in messages, such as its file.

    Raises:
        InputError: where a key is missing or holds something else.
    """
    if not isinstance(plain, Mapping):
        raise InputError(f"{where} must be an object, not {type(plain).__name__}.")
    hints, values = _hints(cast(Any, kind)), {}
    for name, is_needed in _fields(cast(Any, kind)).items():
        if name in plain:
            values[name] = _value(hints[name], plain[name], f"{where}: {name}")
        elif is_needed:
            raise InputError(f"{where}: {name} is missing.")
    return kind(**values)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: Any) -> dict[str, bool]:
    """The names of a record's fields, and whether each must be there."""
    if is_dataclass(kind):
        return {each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(kind)}
    return {name: name not in kind._field_defaults for name in kind._fields}


def _value(kind: Any, plain: Any, where: str) -> Any:
    origin, of = get_origin(kind), get_args(kind)
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return read_record(cast(type, kind), plain, where)
    if NoneType in of:
        return None if plain is None else _value(next(each for each in of if each is not NoneType), plain, where)
    if kind is Any or is_typeddict(kind):
        return plain
    if kind is float and not isinstance(plain, (bool, str, list, dict)):
        return math.nan if plain is None else plain
    if not isinstance(plain, list if origin is tuple else origin or kind):
        raise InputError(f"{where} must be {(origin or kind).__name__}, not {plain!r:.80}.")
    if isinstance(plain, dict):
        return {key: _value(of[1], each, f"{where}.{key}") for key, each in plain.items()}
    if isinstance(plain, list):
        return (origin or list)(_value(of[0], each, f"{where}[{place}]") for place, each in enumerate(plain))
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSummary:
    """All that the report of a grid is drawn from: its methods' runs (of each package), and where they come from.

    Attributes:
        package: whose grid it is.
        title, command: of the report, and what was typed.
        seeds: of each method's runs.
        runs: all of them, listed.
        wall_seconds: without what was finished before.
    """

    package: str = ""
    title: str = ""
    command: str = ""
    seeds: list[int]
    runs: list[ListedRun] = field(default_factory=list)
    git_commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @classmethod
    def load(cls, folder: Path, advice: str) -> Self:
        """What `save` wrote into a folder. Args: advice: what to do where it cannot be read. Raises InputError."""
        plain = {"title": folder.name, **read_json(folder / SUMMARY, advice)}
        runs = [{"where": run} if isinstance(run, str) else run for run in plain.get("runs", [])]  # once they were folders
        try:
            return read_record(cls, plain | {"runs": runs}, SUMMARY)
        except InputError as error:
            (package,) = (each.default for each in fields(cls) if each.name == "package")
            reason = str(error).rstrip(".")
            raise InputError(f"{folder / SUMMARY} is of no reproduction by {package} ({reason}); {advice}.") from error

    def save(self, folder: Path) -> None:
        """Write summary.json into a folder."""
        write_json(folder / SUMMARY, as_plain(self))

    def facts(self, *more: tuple[str, str]) -> list[tuple[str, str]]:
        """What the report rests on, as names and values. Args: more: after the command."""
        seeds = [("seeds", ", ".join(map(str, self.seeds)))] if self.seeds else []
        time = ("time", f"{self.wall_seconds / 60:.1f} minutes, without what was done before")
        return [*provenance(self.command, self.git_commit, self.versions, *more), *seeds, time]


def of_grid(
    runs: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> dict[str, Any]:
    """What a summary holds of the runs of a grid, as plain containers.

    Args: runs: each with its method, seed, metrics, command and run_dir; configs: of their directories; result: of one of them.
    """
    names, metrics, commands, folders = ([run[key] for run in runs] for key in ("method", "metrics", "command", "run_dir"))
    return {
        "seeds": list(dict.fromkeys(run["seed"] for run in runs)),
        "runs": [as_plain(run) for run in list_runs(names, configs, metrics, commands, folders)],
        "git_commit": result["git_commit"],
        "versions": result["versions"],
    }


def provenance(
    command: str, git_commit: str | None, versions: Mapping[str, str], *more: tuple[str, str]
) -> list[tuple[str, str]]:
    """Facts that every report has. Args: more: after the command."""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [("command", command), *more, ("commit", str(git_commit)), ("versions", listed)]
