"""Sweeps: Hydra multiruns in which every job leaves a record, and which end in one table.

<hydra.sweep.dir>/3/job.json    what became of job 3: what it was told, where its run is, its metrics or its error
<hydra.sweep.dir>/3/job.log     what it said
<hydra.sweep.dir>/.stop         there once the sweep was interrupted: jobs that are processes of their own look for it
<hydra.sweep.dir>/table.md, report.html    all of them, over seeds (`report.sweep`)

A job's run has a directory of its own (`runs.directory`), so that a sweep that is given again does what is missing only.
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
LOOK = 0.3  # seconds between looks for the file that stops jobs
KILLED = ("BrokenProcessPool", "TerminatedWorkerError")  # what launchers raise where a worker was killed
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # whose jobs are done by the process that was started
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"  # whose jobs are done by its children
Record = dict[str, Any]
"""`number`; `overrides`, key -> value; `command`; `run_dir`, `metrics` and `score`, or `error`."""


class JobError(Exception):
    """A job of a sweep could not be done; its record says why, and the others go on."""


class Sweep(Callback):
    """Named in `commands.hydra_defaults`: notes in the process that was started that this is a sweep, and where."""

    folder: Path | None = None
    _interruption = ExitStack()

    @classmethod
    @contextmanager
    def none_yet(cls) -> Iterator[None]:
        """In the block it will turn out whether this is a sweep."""
        cls.folder = None
        with ExitStack() as cls._interruption:
            yield

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See `jobs_of_one`."""
        Sweep._interruption.enter_context(jobs_of_one(config))


@contextmanager
def jobs_of_one(config: DictConfig) -> Iterator[None]:
    """Inside, the jobs of a sweep are done. Args: config: what they have in common.

    What was before is forgotten: every job writes a record of its own, also one whose run is there already. Where jobs are
    processes of their own, an interruption makes them save and end, and is waited for.
    """
    folder = Sweep.folder = Path(config.hydra.sweep.dir)
    for old in (*folder.glob(f"*/{RECORD}"), *folder.glob(f"*/{LOG}"), folder / STOP):
        old.unlink(missing_ok=True)
    launcher = config.hydra.launcher.get("_target_")
    if launcher == JOBLIB:
        _start_resource_trackers()
    with ExitStack() as stack:
        if launcher != BASIC:
            what = "the jobs under way finish their step and save a checkpoint"
            stack.enter_context(interruption.finishing(what, partial(_stop_jobs, folder)))
            stack.enter_context(interruption.kept_from_children())
        yield


def _start_resource_trackers() -> None:
    """To start them later would let signals through to joblib's workers, since it ends with all signals unblocked."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as resource_tracker_of_joblib

    start_quietly(resource_tracker)
    start_quietly(resource_tracker_of_joblib)


def _stop_jobs(folder: Path) -> None:
    """Let the jobs under way finish; where there are none yet, raise KeyboardInterrupt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()
    if not any(folder.glob(f"*/{LOG}")):
        raise KeyboardInterrupt


def is_job() -> bool:
    """Whether what runs here is one job of a sweep."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def run_job(
    task: Callable[[DictConfig], object],
    config: DictConfig,
    program: str,
    describe: Callable[[Exception], str | None],
    texts: Mapping[str, TextKey],
) -> float | None:
    """Do one job, with what it prints in its log.

    Args:
        task: gives `run_dir`, `metrics` and `score`, or None.
        describe: an error in one sentence if the input is at fault; None for a bug, whose traceback goes into the log.
        texts: keys whose values are plain text in a command.

    Returns:
        The score, for sweepers that look for the best; None where the task gives none, NaN for a job that was interrupted.

    Raises:
        JobError: for any exception of the task.
    """
    hydra = HydraConfig.get()
    folder = Path(OmegaConf.to_container(hydra.runtime, resolve=False)["output_dir"])  # type: ignore[index, call-overload]
    told = [override_for_people(o, config, texts) for o in given_overrides()]
    record: Record = {
        "number": hydra.job.num,
        "overrides": {key: value for key, value, _ in told},
        "command": shlex.join([program, *own_configs(), *(argument for _, _, argument in told)]),
        "run_dir": None,
        "metrics": {},
        "score": None,
        "error": None,
    }
    apart = Sweep.folder is None  # from the process that was started
    try:
        with _said_to(folder / LOG), _stops_with(Path(hydra.sweep.dir)) if apart else ExitStack():
            _note_outcome(record, task, config, describe)
    except KeyboardInterrupt:
        if not apart:
            raise
        record["error"] = "interrupted; the same sweep goes on"
    write_json(folder / RECORD, record)
    if apart and interruption.received() is not None:
        return math.nan
    if record["error"] is not None:
        raise JobError(record["error"])
    return None if record["score"] is None else float(record["score"])


def _note_outcome(
    record: Record, task: Callable[[DictConfig], object], config: DictConfig, describe: Callable[[Exception], str | None]
) -> None:
    """Do the task and put into the record what comes of it."""
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


@contextmanager
def _stops_with(sweep: Path) -> Iterator[None]:
    """For a job that is done apart from the process that was started: interrupt it when the sweep is interrupted."""
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
        if interruption.received() is not None:  # in the job before, in this process
            raise KeyboardInterrupt
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()


@cache
def _end_with_parent() -> None:
    """From now on, end this process when the one that started it is no more."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
