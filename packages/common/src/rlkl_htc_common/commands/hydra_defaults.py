"""Settings of Hydra that all applications of this project share, as configs."""

from hydra.core.config_store import ConfigStore

APP = {  # Hydra composes configs but writes no files: `runs.directory` makes run directories
    "defaults": [{"override /hydra/job_logging": "stdout"}, {"override /hydra/hydra_logging": "none"}],
    "hydra": {
        "run": {"dir": "."},
        "output_subdir": None,
        "sweep": {"dir": "outputs/multirun/${now:%Y-%m-%d-%H%M%S}", "subdir": "${hydra:job.num}"},
        "callbacks": {"sweep": {"_target_": "rlkl_htc_common.runs.sweeps.Sweep"}},
        "job": {"chdir": False},
        "job_logging": {
            "formatters": {"simple": {"class": "rlkl_htc_common.terminal.PrintableFormatter", "format": "%(message)s"}},
            "handlers": {"console": {"stream": "ext://sys.stderr"}},  # standard output is for results
        },
    },
}
# joblib on this machine: one job per core and at most four; one job on a GPU. For more: jobs=8 in a reproduction,
# hydra.launcher.n_jobs=8 with --multirun.
CORES = {"defaults": ["joblib"], "n_jobs": "${jobs:}", "verbose": 5}


def register() -> None:
    """Register the config `app` and the launcher `cores` with Hydra."""
    store = ConfigStore.instance()
    store.store(name="app", node=APP, package="_global_")
    store.store(group="hydra/launcher", name="cores", node=CORES)
