"""A grid: many jobs of a command, run by the chosen Hydra launcher: in this process, with joblib, or on a cluster.

The config of the command is composed again for each job, with the job's overrides, as `--multirun` does.
The outcome of a job is in its record (`runs.sweeps`).
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from rlkl_htc_common.cli import interruption
from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.commands.application import describe, refuse_added_keys, running
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs import sweeps
from rlkl_htc_common.runs.commands import given_overrides
from rlkl_htc_common.runs.cores import number_of_jobs
from rlkl_htc_common.runs.directory import read_json
from rlkl_htc_common.runs.sweeps import RECORD, Record, Sweep

LOOK = 0.5  # seconds between two counts of finished jobs
SHOWN = 5  # failures that are shown in full
ADVICE = "remove it, and give the same command again"

Override = Mapping[str, Any]
"""Key -> value; for a group, group -> choice."""


class Method(NamedTuple):
    """One method of a grid: the settings that its jobs share; they differ in the seed.

    Attributes:
        name: its name in reports.
        overrides: of the command's config, in Hydra's grammar.
        config: composed with these overrides.
        choices: of the config, by group.
    """

    name: str
    overrides: list[str]
    config: DictConfig
    choices: dict[str, str]


def compose_methods(config: str, methods: Mapping[str, Override], given: Sequence[str] | None = None) -> list[Method]:
    """Compose a command's config once for each method.

    Args: given: overrides that all methods share; None for those of the running command.

    Raises:
        InputError: for overrides that do not fit the config.
    """
    given, found = list(given_overrides() if given is None else given), []
    for name, settings in methods.items():
        overrides = [*given, *as_overrides(settings)]
        try:
            composed = compose(config, overrides, return_hydra_config=True)
            choices = {group: choice for group, choice in composed.hydra.runtime.choices.items() if choice is not None}
            with open_dict(composed):
                del composed["hydra"]
            refuse_added_keys(composed)
        except (HydraException, OmegaConfBaseException, InputError) as error:
            raise InputError(f"methods: {name}: {describe(error)}") from error
        found.append(Method(name, overrides, composed, choices))
    return found


def as_overrides(settings: Override) -> list[str]:
    """Write overrides in Hydra's grammar."""
    return [f"{key}={literal(value)}" for key, value in settings.items()]


def launch(
    job: Callable[[DictConfig], object],
    config: str,
    jobs: Sequence[Sequence[str]],
    folder: Path,
    what: str,
    at_a_time: int | None = None,
    when_interrupted: str = sweeps.SAVES,
) -> list[Record]:
    """Run jobs with the launcher of the running command, and wait for them.

    Args:
        job: runs one job from its config; must be picklable. Its return value goes into the record.
        config: the name of the config that each job composes.
        jobs: the overrides of each job, in Hydra's grammar.
        folder: for records and logs; each job has a subfolder named by its number.
        what: a noun for the jobs, for the progress bar and messages.
        at_a_time: number of jobs that run at a time; None: chosen for this machine.
        when_interrupted: what the jobs do then, for the sentence that says so.

    Returns:
        The records, in the order of `jobs`.

    Raises:
        InputError: at the end, if jobs failed, with their messages.
        KeyboardInterrupt: after an interruption, once the running jobs have ended.
    """
    if not jobs:
        return []
    for talkative in ("hydra", "hydra_plugins"):  # they list all jobs; here a progress bar and the records do
        logging.getLogger(talkative).setLevel(logging.WARNING)
    state, master = Singleton.get_state(), _master(config, folder, at_a_time)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(master))
    task = running().doing(job)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
    try:
        with sweeps.jobs_of_one(master, when_interrupted), _progress(folder, len(jobs), what):
            launcher.launch([list(overrides) for overrides in jobs], initial_job_idx=0)
    except (InputError, sweeps.JobError):
        pass  # reported below
    except Exception as error:
        if type(error).__name__ not in sweeps.KILLED or interruption.received() is not None:
            raise
        raise InputError(f"a process was killed, for want of memory perhaps; try jobs=1 ({folder}).") from error
    finally:
        Sweep.folder = None
        Singleton.set_state(state)
    if interruption.received() is not None:  # and a job failed before it
        raise KeyboardInterrupt
    return _records(folder, len(jobs), what)


def _master(config: str, folder: Path, at_a_time: int | None) -> DictConfig:
    """The config that all jobs share, with the launcher settings of the running command."""
    here = HydraConfig.get()
    choice = here.runtime.choices["hydra/launcher"]
    overrides = [each for each in given_overrides("hydra") if not each.startswith(("hydra/launcher=", "hydra.sweep."))]
    overrides += [f"hydra/launcher={choice}", f"hydra.sweep.dir={literal(str(folder))}", "hydra.mode=MULTIRUN"]
    if "n_jobs" in here.launcher and not any(each.startswith("hydra.launcher.n_jobs=") for each in overrides):
        overrides += [f"hydra.launcher.n_jobs={number_of_jobs(at_a_time)}", "hydra.launcher.verbose=0"]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(config_name=config, overrides=overrides, run_mode=RunMode.MULTIRUN)


@contextmanager
def _progress(folder: Path, total: int, what: str) -> Iterator[None]:
    """Show the number of jobs that have written a record."""
    over = threading.Event()

    def watch() -> None:
        with tqdm(total=total, desc=what, unit="run", smoothing=0.0) as bar:
            while True:
                ended = over.wait(LOOK)
                done = len(list(folder.glob(f"*/{RECORD}")))
                if done > bar.n:
                    bar.update(done - bar.n)
                if ended:
                    return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _records(folder: Path, number: int, what: str) -> list[Record]:
    found, failed = [], []
    for each in range(number):
        file = folder / str(each) / RECORD
        record = read_json(file, ADVICE) if file.exists() else {"error": f"job {each} left no record in {file.parent}."}
        found.append(record)
        if record["error"] is not None:
            failed.append(str(record["error"]))
    if failed:
        more = f" (and {len(failed) - SHOWN} more)" if len(failed) > SHOWN else ""
        raise InputError(f"{len(failed)} of {number} {what} failed; the others are done: {' '.join(failed[:SHOWN])}{more}")
    return found
