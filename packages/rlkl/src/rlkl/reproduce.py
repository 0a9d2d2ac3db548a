"""make reproduce-rl: evaluate a pre-trained model, fine-tune it with every penalty and seed, and write a report.

    python -m rlkl.reproduce
    python -m rlkl.reproduce seeds=[0,1,2,3,4,5,6,7,8] algorithm.collects=40 jobs=8

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from common.cli import print_result, run_application
from common.parallel import number_of_jobs, run_all
from common.runs import make_folder, write_json
from rlkl.config import EvaluateConfig, FinetuneConfig, ReproduceConfig, register
from rlkl.errors import InputError
from rlkl.evaluate import evaluate_setting, gather, settings
from rlkl.evaluation import check_positions
from rlkl.finetune import check, finetune
from rlkl.language_model import load_model, task_of
from rlkl.penalty import Penalty
from rlkl.report import summarize, write_rl_report


def grid(config: ReproduceConfig) -> list[FinetuneConfig]:
    """The fine-tuning runs that a reproduction consists of.

    Raises:
        InputError: for an empty grid, or one that names a run twice.
    """
    names = [penalty.weighting for penalty in config.penalties]
    if not names or not config.seeds:
        raise InputError("penalties and seeds must each hold at least one entry.")
    if len(set(names)) < len(names) or len(set(config.seeds)) < len(config.seeds):
        raise InputError("penalties must hold each weighting only once, and seeds each seed.")
    if config.penalty != Penalty("standard"):
        raise InputError("a reproduction takes penalties=[...]; penalty alone changes nothing there.")
    if config.run_dir is not None or config.seed != FinetuneConfig.seed:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")
    shared: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(FinetuneConfig)}
    return [
        FinetuneConfig(**shared | {"penalty": penalty, "seed": seed}) for seed in config.seeds for penalty in config.penalties
    ]


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Evaluate, run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    jobs = number_of_jobs(config.jobs)
    runs = grid(config)
    for run in runs:
        check(run)
    model = load_model(config.model)
    check_positions(task_of(model), model.config.n_positions, model.config.trained_digits + config.extra_digits)
    output = Path(config.output)
    make_folder(output)
    evaluation = EvaluateConfig(model=config.model, examples=config.examples, show=3)
    chosen = settings(evaluation, model)
    rows = run_all(partial(evaluate_setting, evaluation, config.runs), chosen, jobs, "evaluation before")
    start = gather(model, evaluation, rows)
    results = run_all(partial(finetune, progress=False), runs, jobs, "fine-tuning runs")
    summary = summarize(start, results)
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    write_json(output / "summary.json", summary)
    return write_rl_report(output, config.title, summary, command)


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, " ".join(["python -m rlkl.reproduce", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")


def main() -> None:
    """The entry point."""
    register()
    run_application(_task, application="rlkl", config="reproduce", bad_input=(InputError,))


if __name__ == "__main__":
    main()
