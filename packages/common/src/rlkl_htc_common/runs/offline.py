"""What offline runs of wandb hold, read back from their files."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import flatten

PATTERN = "wandb/offline-run-*/*.wandb"


@dataclass
class OfflineRun:
    """A run in wandb.

    Attributes:
        config: its config, by dotted key.
        steps: the numbers that were logged, by step and name.
        summary: the last number of each name, and final ones.
        pages: HTML by name.
    """

    config: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """The offline runs below a folder; what a continued run logged in several goes is one run.

    Raises:
        InputError: if there are none, or one cannot be read.
    """
    found: dict[str, OfflineRun] = {}
    for file in sorted(folder.rglob(PATTERN)):
        run = found.setdefault(file.stem, OfflineRun())
        records = list(_records(file))
        if not any(record.get("type") == "run" for record in records):
            raise InputError(f"{file} is damaged: it says of no run what it is.")
        for record in records:
            _take(run, record, file.parent / "files")
    if not found:
        raise InputError(f"{folder} holds no offline run of wandb ({PATTERN}); train with tracking.mode=offline.")
    return list(found.values())


def _records(file: Path) -> Iterator[Mapping[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise InputError(f"{file} cannot be read: {done.stderr.strip()}.")
    for line in done.stdout.splitlines():
        yield json.loads(line)


def _take(run: OfflineRun, record: Mapping[str, Any], files: Path) -> None:
    """Add a record to what is known of a run."""
    match record:
        case {"type": "run", "run": {"config": {"update": update}}}:
            run.config |= flatten(update)
        case {"type": "history", "history": {"item": item}}:
            numbers = _numbers(item)
            run.steps.setdefault(int(item["_step"]), {}).update(numbers)
            run.summary |= numbers
            pages = [name.removesuffix("._type") for name, value in item.items() if value == "html-file"]
            run.pages |= {name: (files / item[f"{name}.path"]).read_text(encoding="utf-8") for name in pages}
        case {"type": "summary", "summary": {"update": update}}:
            run.summary |= _numbers(update)


def _numbers(item: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record, without those about files, such as `NAME.size` beside `NAME._type`."""
    return {
        name: value
        for name, value in item.items()
        if isinstance(value, (int, float)) and not name.startswith("_") and f"{name.rpartition('.')[0]}._type" not in item
    }
