"""Sweeps: Hydra multiruns in which every job leaves a record, and which end in one table.

<hydra.sweep.dir>/3/job.json    what became of job 3: what it was told, where its run is, its metrics or its error
<hydra.sweep.dir>/3/job.log     what it said
<hydra.sweep.dir>/table.md, report.html    all of them, over seeds

A job's run has a directory of its own (`common.runs`), so that a sweep that is given again does what is missing only.
"""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from common.parallel import number_of_jobs
from common.report import Section, Table, markdown_table, write_report
from common.runs import write_atomically, write_json
from common.statistics import over_seeds

log = logging.getLogger(__name__)

RECORD, LOG = "job.json", "job.log"
Record = dict[str, Any]
"""`number`; `overrides`, key -> value; `command`; `run_dir` and `metrics`, or `error`."""


OmegaConf.register_new_resolver("jobs", lambda: number_of_jobs(None), replace=True)  # for conf/*/hydra/launcher


class JobError(Exception):
    """A job of a sweep could not be done; its record says why, and the others go on."""


class Sweep(Callback):
    """Named in conf/*/app.yaml: notes in the process that was started that this is a sweep, and where."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the records of before: every job writes its own, also one whose run is there already."""
        Sweep.folder = Path(config.hydra.sweep.dir)
        for record in Sweep.folder.glob(f"*/{RECORD}"):
            record.unlink()


def is_job() -> bool:
    """Whether what runs here is one job of a sweep."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def run_job(
    task: Callable[[DictConfig], object], config: DictConfig, program: str, describe: Callable[[Exception], str | None]
) -> None:
    """Do one job, with what it prints in its log.

    Args:
        task: gives `run_dir` and `metrics`, or None.
        describe: an error in one sentence if the input is at fault; None for a bug, whose traceback goes into the log.

    Raises:
        JobError: for any exception of the task.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [override for override in hydra.overrides.task if not override.startswith("sweep=")]
    record: Record = {
        "number": hydra.job.num,
        "overrides": dict(override.split("=", 1) for override in overrides),
        "command": shlex.join([program, *overrides]),
        "run_dir": None,
        "metrics": {},
        "error": None,
    }
    with _said_to(folder / LOG):
        try:
            outcome = task(config)
            if isinstance(outcome, Mapping):
                record |= outcome
        except Exception as error:
            record["error"] = describe(error)
            if record["error"] is None:
                record["error"] = f"{type(error).__name__}: {error}"
                log.exception("this is a bug")
            else:
                log.error("%s", record["error"])
    write_json(folder / RECORD, record)
    if record["error"] is not None:
        raise JobError(record["error"])


@contextmanager
def _said_to(file: Path) -> Iterator[None]:
    """Send standard output, standard error and log messages to a file."""
    root = logging.getLogger()
    handlers = root.handlers
    with file.open("w", encoding="utf-8") as stream, redirect_stdout(stream), redirect_stderr(stream):
        root.handlers = [logging.StreamHandler(stream)]
        try:
            yield
        finally:
            root.handlers = handlers


def records_in(folder: Path) -> list[Record]:
    """What the jobs of a sweep left, by number."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob(f"*/{RECORD}")]
    return sorted(found, key=lambda record: record["number"])


def sweep_table(records: Sequence[Record]) -> Table:
    """A row for each setting that was swept over, with its metrics over seeds. Args: records: of jobs that were done."""
    keys = _swept(records)
    metrics = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    by_setting: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        by_setting.setdefault(tuple(record["overrides"].get(key, "") for key in keys), []).append(record)
    rows = []
    for setting, jobs in by_setting.items():
        values = ([job["metrics"][name] for job in jobs if name in job["metrics"]] for name in metrics)
        rows.append([*setting, str(len(jobs)), *(str(over_seeds(each)) if each else "–" for each in values)])
    columns = [*keys, "runs", *metrics]
    return Table(columns, rows, "Means over seeds, with 95% intervals (Student t).", texts=set(range(len(keys))))


def _swept(records: Sequence[Record]) -> list[str]:
    """The keys, other than the seed, that jobs were told differently."""
    keys = dict.fromkeys(key for record in records for key in record["overrides"] if key != "seed")
    return [key for key in keys if len({record["overrides"].get(key) for record in records}) > 1]


def finish(program: str) -> int:
    """Write the table and the report of the sweep that ran, and tell which jobs failed.

    Returns:
        The exit code: 1 where a job failed, else 0.
    """
    folder = Sweep.folder
    assert folder is not None
    records = records_in(folder)
    done = [record for record in records if record["error"] is None]
    failed = [record for record in records if record["error"] is not None]
    if records:
        sections = [Section("The runs", [], [_runs_table(records)])]
        if done:
            table = sweep_table(done)
            write_atomically(folder / "table.md", markdown_table(table) + "\n")
            sections.insert(0, Section("The result", [], [table]))
            print(f"{markdown_table(table)}\n\nreport: {folder / 'report.html'}")
        lead = f"{len(done)} of {len(records)} jobs done" + (f", {len(failed)} failed." if failed else ".")
        write_report(folder / "report.html", f"Sweep: {folder.name}", lead, sections, [("folder", str(folder))])
    for record in failed:
        where = folder / str(record["number"]) / LOG
        print(f"{program}: job {record['number']} failed: {record['error']} ({record['command']}; {where})", file=sys.stderr)
    return 1 if failed else 0


def _runs_table(records: Sequence[Record]) -> Table:
    rows = [[str(record["number"]), record["command"], record["run_dir"] or f"failed: {record['error']}"] for record in records]
    return Table(["job", "command", "run"], rows, texts={1, 2})
