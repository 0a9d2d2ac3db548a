"""Sweeps: Hydra multiruns in which every job leaves a record, and which end in one table.

<hydra.sweep.dir>/3/job.json    what became of job 3: what it was told, where its run is, its metrics or its error
<hydra.sweep.dir>/3/job.log     what it said
<hydra.sweep.dir>/table.md, report.html    all of them, over seeds (`common.sweep_report`)

A job's run has a directory of its own (`common.runs`), so that a sweep that is given again does what is missing only.
"""

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from common.runs import write_json
from common.terminal import PrintableFormatter

log = logging.getLogger(__name__)

RECORD, LOG = "job.json", "job.log"
Record = dict[str, Any]
"""`number`; `overrides`, key -> value; `command`; `run_dir` and `metrics`, or `error`."""


def _jobs() -> int:
    from common.parallel import number_of_jobs

    return number_of_jobs(None)


OmegaConf.register_new_resolver("jobs", _jobs, replace=True)  # for conf/*/hydra/launcher


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
        "overrides": dict(override.partition("=")[::2] for override in overrides),
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
        handler = logging.StreamHandler(stream)
        handler.setFormatter(PrintableFormatter())
        root.handlers = [handler]
        try:
            yield
        finally:
            root.handlers = handlers
