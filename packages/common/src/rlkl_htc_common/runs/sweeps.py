"""Sweeps: Hydra multiruns in which every job writes a record, and which end in one table.

<hydra.sweep.dir>/3/job.json    the record of job 3: its overrides, its run directory, its metrics or its error
<hydra.sweep.dir>/3/job.log     its output
<hydra.sweep.dir>/.stop         exists once the sweep was interrupted; jobs in other processes check for it
<hydra.sweep.dir>/table.md, report.html    all jobs, over seeds (`report.sweep`)

Each job's run has its own directory (`runs.directory`). A sweep that is started again does only the missing runs.
"""

import logging
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rlkl_htc_common.cli import interruption
from rlkl_htc_common.cli.plain_text import TextKey
from rlkl_htc_common.runs.commands import given_overrides, override_for_people, own_configs
from rlkl_htc_common.runs.cores import start_quietly
from rlkl_htc_common.runs.directory import write_json
from rlkl_htc_common.terminal import PrintableFormatter

log = logging.getLogger(__name__)

RECORD, LOG, STOP = "job.json", "job.log", ".stop"
LOOK = 0.3  # seconds between two checks for the file that stops jobs
KILLED = ("BrokenProcessPool", "TerminatedWorkerError")  # errors of launchers if a worker was killed
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # runs its jobs in the main process
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"  # runs its jobs in child processes
SAVES = "the jobs under way finish their step and save a checkpoint"  # when a sweep is interrupted
Record = dict[str, Any]
"""`number`; `overrides`, key -> value; `command`; `run_dir`, `metrics` and `score`, or `error`."""


class JobError(Exception):
    """A job of a sweep failed; its record says why, and the other jobs go on."""


class Sweep(Callback):
    """Hydra callback (see `commands.hydra_defaults`): stores the folder of the sweep in the main process."""

    folder: Path | None = None
    _interruption = ExitStack()

    @classmethod
    @contextmanager
    def none_yet(cls) -> Iterator[None]:
        """Reset the folder; Hydra sets it inside the block if this is a sweep."""
        cls.folder = None
        with ExitStack() as cls._interruption:
            yield

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See `jobs_of_one`."""
        Sweep._interruption.enter_context(jobs_of_one(config))


@contextmanager
def jobs_of_one(config: DictConfig, when_interrupted: str = SAVES) -> Iterator[None]:
    """Run the jobs of a sweep inside the block. Args: config: the config that they share; when_interrupted: what they do then.

    Old records are removed: every job writes a new record, even if its run is finished. If the jobs run in other processes, an
    interruption makes them save and end, and this process waits for them.
    """
    folder = Sweep.folder = Path(config.hydra.sweep.dir)
    for old in (*folder.glob(f"*/{RECORD}"), *folder.glob(f"*/{LOG}"), folder / STOP):
        old.unlink(missing_ok=True)
    launcher = config.hydra.launcher.get("_target_")
    if launcher == JOBLIB:
        _start_resource_trackers()
    with ExitStack() as stack:
        if launcher != BASIC:
            stack.enter_context(interruption.finishing(when_interrupted, partial(_stop_jobs, folder)))
            stack.enter_context(interruption.kept_from_children())
        yield


def _start_resource_trackers() -> None:
    """Start them before joblib does: it would unblock all signals, and its workers would receive them."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as resource_tracker_of_joblib

    start_quietly(resource_tracker)
    start_quietly(resource_tracker_of_joblib)


def _stop_jobs(folder: Path) -> None:
    """Let the running jobs finish; if there are none yet, raise KeyboardInterrupt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()
    if not any(folder.glob(f"*/{LOG}")):
        raise KeyboardInterrupt


def is_job() -> bool:
    """Whether this code runs in a job of a sweep."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def run_job(
    task: Callable[[DictConfig], object],
    config: DictConfig,
    program: str,
    describe: Callable[[Exception], str | None],
    texts: Mapping[str, TextKey],
) -> float | None:
    """Run one job, with its output in its log.

    Args:
        task: returns `run_dir`, `metrics` and `score`, or None.
        describe: returns one sentence for an input error; None for a bug, whose traceback goes into the log.
        texts: keys whose values are plain text in a command.

    Returns:
        The score, for sweepers that search; None if the task gives none, NaN for an interrupted job.

    Raises:
        JobError: for any exception of the task.
    """
    hydra = HydraConfig.get()
    folder = Path(OmegaConf.to_container(hydra.runtime, resolve=False)["output_dir"])  # type: ignore[index, call-overload]
    overrides = [override_for_people(o, config, texts) for o in given_overrides()]
    record: Record = {
        "number": hydra.job.num,
        "overrides": {key: value for key, value, _ in overrides},
        "command": shlex.join([program, *own_configs(), *(argument for _, _, argument in overrides)]),
        "run_dir": None,
        "metrics": {},
        "score": None,
        "error": None,
    }
    apart = Sweep.folder is None  # this is not the main process
    try:
        with _output_to(folder / LOG), _stops_with(Path(hydra.sweep.dir)) if apart else ExitStack():
            _note_outcome(record, task, config, describe)
    except KeyboardInterrupt:
        if not apart:
            raise
        record["error"] = "interrupted; the same command continues the sweep"
    write_json(folder / RECORD, record)
    if apart and interruption.received() is not None:
        return math.nan
    if record["error"] is not None:
        raise JobError(record["error"])
    return None if record["score"] is None else float(record["score"])


def _note_outcome(
    record: Record, task: Callable[[DictConfig], object], config: DictConfig, describe: Callable[[Exception], str | None]
) -> None:
    """Run the task and put its outcome into the record."""
    try:
        outcome = task(config)
        if isinstance(outcome, Mapping):
            record |= outcome
    except Exception as error:
        if interruption.caused(error):
            raise KeyboardInterrupt from error
        record["error"] = describe(error)
        if record["error"] is None:
            record["error"] = f"{type(error).__name__}: {error}"
            log.exception("this is a bug")
        else:
            log.error("%s", record["error"])


@contextmanager
def _stops_with(sweep: Path) -> Iterator[None]:
    """For a job outside the main process: interrupt it when the sweep is interrupted."""
    interruption.answer_as_worker()
    _end_with_parent()
    over = threading.Event()

    def watch() -> None:
        while not (sweep / STOP).exists():
            if over.wait(LOOK):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch, daemon=True)
    with interruption.stoppable():
        if interruption.received() is not None:  # during the previous job of this process
            raise KeyboardInterrupt
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()


@cache
def _end_with_parent() -> None:
    """From now on, end this process when its parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
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
