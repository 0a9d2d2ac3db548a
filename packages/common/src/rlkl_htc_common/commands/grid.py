"""A grid: many jobs of a command, done by the Hydra launcher that is chosen: in this process, by joblib's or by a cluster's.

The command composes its config, and this composes it again for each job with overrides of the job's own, as `--multirun` does.
What became of a job is in its record (`runs.sweeps`).
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

from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.commands.application import describe, refuse_added_keys, running
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs import sweeps
from rlkl_htc_common.runs.commands import given_overrides
from rlkl_htc_common.runs.cores import number_of_jobs
from rlkl_htc_common.runs.directory import read_json
from rlkl_htc_common.runs.sweeps import RECORD, Record, Sweep

LOOK = 0.5  # seconds between looks at how many jobs are done
TOLD = 5  # failures that are told in full
ADVICE = "remove it, and give the same command again"

Override = Mapping[str, Any]
"""Key -> value; the key of a group names a choice of it."""


class Method(NamedTuple):
    """One method of a grid: what all its jobs have, but the seed.

    Attributes:
        name: what a report calls it.
        overrides: of the command's config, in Hydra's grammar.
        config: composed with them.
        choices: of that, by group.
    """

    name: str
    overrides: list[str]
    config: DictConfig
    choices: dict[str, str]


def compose_methods(config: str, methods: Mapping[str, Override], given: Sequence[str] | None = None) -> list[Method]:
    """Compose a command's config once for each method.

    Args: given: overrides that all have; None for those of the command that runs here.

    Raises:
        InputError: for overrides that the config cannot have.
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
    """Overrides in Hydra's grammar."""
    return [f"{key}={literal(value)}" for key, value in settings.items()]


def launch(
    job: Callable[[DictConfig], object],
    config: str,
    jobs: Sequence[Sequence[str]],
    folder: Path,
    what: str,
    at_a_time: int | None = None,
) -> list[Record]:
    """Do jobs by the launcher of the command that runs here, and wait for them.

    Args:
        job: does one, from its config; made to be pickled. What it gives is for its record.
        config: the name of the config that each job composes.
        jobs: the overrides of each, in Hydra's grammar.
        folder: for their records and logs, each in a folder named by its number.
        what: what they are, for the progress bar and for messages.
        at_a_time: how many; null for what suits the machine.

    Returns:
        Their records, in the order of `jobs`.

    Raises:
        InputError: at the end, if jobs failed, with what they said.
        KeyboardInterrupt: after an interruption, when the jobs under way have ended.
    """
    if not jobs:
        return []
    for talkative in ("hydra", "hydra_plugins"):  # which list the jobs: there is a bar, and a record of each
        logging.getLogger(talkative).setLevel(logging.WARNING)
    state, master = Singleton.get_state(), _master(config, folder, at_a_time)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(master))
    task = running().doing(job)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
    try:
        with sweeps.jobs_of_one(master), _progress(folder, len(jobs), what):
            launcher.launch([list(overrides) for overrides in jobs], initial_job_idx=0)
    except (InputError, sweeps.JobError):
        pass  # told below
    except Exception as error:
        if type(error).__name__ not in sweeps.KILLED:
            raise
        raise InputError(f"a process was killed, for want of memory perhaps; try jobs=1 ({folder}).") from error
    finally:
        Sweep.folder = None
        Singleton.set_state(state)
    return _records(folder, len(jobs), what)


def _master(config: str, folder: Path, at_a_time: int | None) -> DictConfig:
    """The config that all jobs have in common, and how they are launched: as the command that runs here was told."""
    here = HydraConfig.get()
    choice = here.runtime.choices["hydra/launcher"]
    told = [override for override in given_overrides("hydra") if not override.startswith(("hydra/launcher=", "hydra.sweep."))]
    told += [f"hydra/launcher={choice}", f"hydra.sweep.dir={literal(str(folder))}", "hydra.mode=MULTIRUN"]
    if "n_jobs" in here.launcher and not any(override.startswith("hydra.launcher.n_jobs=") for override in told):
        told += [f"hydra.launcher.n_jobs={number_of_jobs(at_a_time)}", "hydra.launcher.verbose=0"]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(config_name=config, overrides=told, run_mode=RunMode.MULTIRUN)


@contextmanager
def _progress(folder: Path, total: int, what: str) -> Iterator[None]:
    """Show how many jobs have left a record."""
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
        more = f" (and {len(failed) - TOLD} more)" if len(failed) > TOLD else ""
        raise InputError(f"{len(failed)} of {number} {what} failed; the others are done: {' '.join(failed[:TOLD])}{more}")
    return found
