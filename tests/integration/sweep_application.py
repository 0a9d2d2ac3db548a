"""A small application with all that sweeps and grids need of one, run by the tests as a program of its own.

With `grid` it does jobs of its own: a square of each number in it, with each seed.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from rlkl_htc_common.commands import grid
from rlkl_htc_common.commands.application import run_application
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.commands import given_overrides
from rlkl_htc_common.runs.directory import RunDirectory, config_hash


@dataclass
class SquareConfig:
    x: float = 0.0
    seed: int = 0
    seconds: float = 0.0
    runs: str = "runs"
    refused: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    cleaned_up: list[float] = field(default_factory=list)  # an interruption of these ends in an error of the cleaning up
    grid: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    jobs: int | None = None


def task(config):
    if not config.grid:
        return square(config)
    jobs = [[*given_overrides(), f"x={x}", f"seed={seed}"] for x in config.grid for seed in config.seeds]
    records = grid.launch(square, "square", jobs, Path("outputs/grid"), "squares", config.jobs)
    print(*(record["metrics"]["test/square"] for record in records))


def square(config):
    typed = OmegaConf.to_object(config)
    identity = {"x": typed.x, "seed": typed.seed}
    run = RunDirectory(Path(typed.runs) / config_hash(identity), identity)
    with run.locked():
        result = run.result()
        if result is None:
            with (Path(typed.runs) / "begun.txt").open("a") as file:
                file.write(f"{typed.x} {typed.seed}\n")
            print("squaring", typed.x)
            try:
                time.sleep(typed.seconds)
            finally:
                if typed.x in typed.cleaned_up:
                    raise InputError("nothing to clean up.")
            if typed.x in typed.refused:
                raise InputError(f"x must not be {typed.x}.")
            result = run.write_result(square=typed.x**2 + 1 / (typed.x not in typed.broken) + typed.seed, process=os.getpid())
    metrics = {"test/square": result["square"], "dev/root": typed.x**0.5}
    return {"run_dir": str(run.path), "metrics": metrics, "score": metrics["dev/root"]}


if __name__ == "__main__":
    ConfigStore.instance().store(name="square_schema", node=SquareConfig)
    run_application(task, application="toy", config="square")
