"""The runs behind a report: how their configs differ, what they reached, and the command that runs each again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.runs.directory import NOT_HASHED, flatten

SHOWN = 40  # rows that a page shows
GRID = "grid.json"  # of a grid: where its runs are, and what its report is to compare


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run of a reproduction or a sweep.

    Attributes:
        name: what the report calls it; empty where its settings say it all.
        settings: its settings, `flatten`ed.
        metrics: what it reached, by name.
        command: runs it again.
        where: its folder, or why there is none.
    """

    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    command: str = ""
    where: str = ""


def differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all of these have with the same value, in the order in which they appear."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]


def metric_names(metrics: Sequence[Mapping[str, float]]) -> list[str]:
    """What runs are shown by: all that some run has, in their order, but dev first, as settings are chosen by it."""
    return sorted(dict.fromkeys(name for each in metrics for name in each), key=lambda name: not name.startswith("dev/"))


def list_runs(
    names: Sequence[str],
    configs: Sequence[Mapping[str, Any]],
    metrics: Sequence[dict[str, float]],
    commands: Sequence[str],
    folders: Sequence[str],
) -> list[ListedRun]:
    """The runs of a grid, in its order. Args: configs: of their directories; metrics: to be shown."""
    settings = [flatten(config) for config in configs]
    keys = [key for key in differences(settings) if key.split(".")[0] not in NOT_HASHED]
    chosen = [{key: each.get(key) for key in keys} for each in settings]
    return [
        ListedRun(name=name, settings=own, metrics=reached, command=command, where=folder)
        for name, own, reached, command, folder in zip(names, chosen, metrics, commands, folders, strict=True)
    ]


def runs_section(runs: Sequence[ListedRun]) -> Section:
    """The runs, folded up: on the page the first of each name, and in `runs.csv` all, for there may be hundreds."""
    keys = differences([run.settings for run in runs])
    metrics = metric_names([run.metrics for run in runs])
    names = ["name"] if any(run.name for run in runs) else []
    rows = [
        [
            *([run.name] if names else []),
            *(_cell(run.settings.get(key)) for key in keys),
            *(f"{run.metrics[name]:.3f}" if name in run.metrics else "–" for name in metrics),
            run.where,
            run.command,
        ]
        for run in runs
    ]
    columns = [*names, *keys, *metrics, "run", "command"]
    first = {run.name: place for place, run in reversed(list(enumerate(runs)))} if names else range(len(runs))
    shown = sorted(first.values() if isinstance(first, dict) else first)[:SHOWN]
    said = "What differs between their configs, what came out, and how to run each again"
    if len(shown) < len(rows):
        said += "; here the first run of each name" if names else f"; here the first {SHOWN}"
    table = Table(columns, rows, codes={len(columns) - 2, len(columns) - 1}, csv="runs.csv", shown=shown)
    return Section(f"The {len(runs)} runs", [f"{said}."], [table], folded=True)


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
