"""make reproduce-htc: train every objective with every seed, apply every inference rule, and write a report.

    python -m htc.reproduce                                                    experiment=icd10cm, from conf/htc/experiment
    python -m htc.reproduce experiment=hwv dataset.dir=path/to/hwv
    python -m htc.reproduce seeds=[0,1,2,3,4] jobs=8

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from common.cli import run_application
from common.encoders import cached_features, load_encoder
from common.runs import write_json
from htc.build import load_dataset, make_objective
from htc.config import ReproduceConfig, TrainConfig, register
from htc.errors import InputError
from htc.report import summarize, write_htc_report
from htc.train import run_directory, train

log = logging.getLogger(__name__)

MOST_JOBS = 4  # a run needs about 1 GB of memory


def grid(config: ReproduceConfig) -> list[TrainConfig]:
    """The training runs that a reproduction consists of."""
    if not config.losses or not config.seeds:
        raise InputError("losses and seeds must each hold at least one entry.")
    shared: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(TrainConfig)}
    runs = []
    for seed in config.seeds:
        for loss in config.losses:
            runs.append(replace(TrainConfig(**shared), loss=loss, seed=seed, run_dir=None))
            if config.split_per_seed:
                runs[-1].dataset = replace(config.dataset, split_seed=seed)
    return runs


def run_all(runs: list[TrainConfig], jobs: int) -> list[dict[str, Any]]:
    """Train all runs, several at a time, each on its share of the cores. Returns: their results, in the same order."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    results: dict[int, dict[str, Any]] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(train, run, progress=False): index for index, run in enumerate(runs)}
        try:
            with tqdm(total=len(runs), desc="training runs", unit="run") as bar:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    bar.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [results[index] for index in range(len(runs))]


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the loop takes Ctrl-C while it trains, the parent otherwise
    torch.set_num_threads(threads)


def prepare(runs: list[TrainConfig]) -> None:
    """Refuse what would fail in every run, and compute the features that all runs share, before any run is started."""
    dataset = load_dataset(runs[0].dataset)
    log.info("%s", dataset.describe())
    for run in runs:
        make_objective(run.loss, dataset.hierarchy, None)
        run.training.check()
    if runs[0].encoder.frozen:
        encoder = load_encoder(runs[0].encoder)
        cached_features(encoder, dataset.texts, runs[0].cache_dir, runs[0].encoder.batch_size)


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    runs = grid(config)
    prepare(runs)
    most = 1 if torch.cuda.is_available() else min(MOST_JOBS, os.cpu_count() or 1)
    results = run_all(runs, min(len(runs), config.jobs or most))
    summary = summarize(results)
    summary["runs"] = [str(run_directory(run)) for run in runs]
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "summary.json", summary)
    return write_htc_report(output, config.title, summary, command)


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, " ".join(["python -m htc.reproduce", *sys.argv[1:]]))
    print((report.parent / "table.md").read_text(encoding="utf-8"))
    print(f"report: {report}")


def main() -> None:
    """The entry point."""
    register()
    run_application(_task, application="htc", config="reproduce", bad_input=(InputError,))


if __name__ == "__main__":
    main()
