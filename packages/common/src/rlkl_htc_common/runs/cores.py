"""The number of parallel jobs on this machine, and joblib's helper processes."""

import os
from types import ModuleType

from omegaconf import OmegaConf

from rlkl_htc_common.cli import interruption
from rlkl_htc_common.errors import InputError

MOST_JOBS = 4  # a run needs about 1 GB of memory


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_jobs(asked: int | None = None) -> int:
    """The number of parallel runs: as asked, else one on a GPU, else one per core and at most MOST_JOBS.

    Raises:
        InputError: if it is less than one.
    """
    import torch  # here: entry points that start no runs need not import it

    if asked is not None and asked < 1:
        raise InputError(f"jobs must be at least 1, not {asked}.")
    return asked or (1 if torch.cuda.is_available() else min(MOST_JOBS, available_cores()))


OmegaConf.register_new_resolver("jobs", number_of_jobs, replace=True)  # for conf/*/hydra/launcher


def start_quietly(tracker: ModuleType) -> None:
    """Start the process that cleans up after workers. It survives a closed terminal, and is silent if this process is killed.

    Args: tracker: the resource tracker module, of multiprocessing or of joblib.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        with interruption.kept_from_children():
            tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before
