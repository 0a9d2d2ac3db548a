"""make reproduce-htc: train every objective with every seed, apply every inference rule, and write a report.

    htc-reproduce                                           experiment=icd10cm, from conf/htc/experiment
    htc-reproduce experiment=hwv dataset.dir=path/to/hwv
    htc-reproduce seeds=[0,1,2,3,4] jobs=8

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl_htc_common.cli.entry import begin

    begin("htc")


import logging
import shlex
import sys
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.numpy import load_file

from htc.commands.train import PER_DOCUMENT, check, check_select, check_targets, headline, train, warn_if_slow
from htc.datasets import Dataset
from htc.experiment.build import load_dataset, make_objective
from htc.experiment.config import ReproduceConfig, TrainConfig, register
from htc.experiment.saved_model import load_model
from htc.report.against import against_section, load_other
from htc.report.comparison_section import Documents
from htc.report.errors_section import errors_section
from htc.report.labels import label
from htc.report.reproduction import summarize, write_htc_report
from rlkl_htc_common.cli.application import print_result, run_application
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.report.page import Section
from rlkl_htc_common.report.run_list import list_runs
from rlkl_htc_common.runs.commands import commands_of
from rlkl_htc_common.runs.directory import make_folder, write_json
from rlkl_htc_common.runs.parallel import number_of_jobs, run_all

log = logging.getLogger(__name__)


def grid(config: ReproduceConfig) -> list[TrainConfig]:
    """The training runs that a reproduction consists of.

    Raises:
        InputError: for an empty grid, or one that names a run twice.
    """
    names = [loss.name for loss in config.losses]
    if not names or not config.seeds:
        raise InputError("losses and seeds must each hold at least one entry.")
    if len(set(names)) < len(names) or len(set(config.seeds)) < len(config.seeds):
        raise InputError("losses and seeds must each hold an entry only once.")
    if config.run_dir is not None or config.seed != TrainConfig.seed:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")
    shared: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(TrainConfig)}
    runs = []
    for seed in config.seeds:
        dataset = replace(config.dataset, split_seed=seed) if config.split_per_seed else config.dataset
        runs += [TrainConfig(**shared | {"loss": loss, "seed": seed, "dataset": dataset}) for loss in config.losses]
    return runs


def prepare(runs: list[TrainConfig]) -> Dataset:
    """Refuse what would fail in every run, and compute the features that all runs share, before any run is started.

    Returns:
        The documents of the first run.
    """
    dataset = load_dataset(runs[0].dataset)
    log.info("%s", dataset.describe())
    for run in runs:
        check(run)
        objective = make_objective(run.loss, dataset.hierarchy, None)
        check_targets(objective, dataset)
        check_select(run, objective)
    if runs[0].encoder.frozen:
        encoder = load_encoder(runs[0].encoder)
        cached_features(encoder, dataset.texts, runs[0].cache_dir, runs[0].encoder.batch_size)
    return dataset


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    jobs = number_of_jobs(config.jobs)
    runs = grid(config)
    output = Path(config.output)
    make_folder(output)
    warn_if_slow(runs[0], len(runs))
    dataset = prepare(runs)
    other = None
    if config.against is not None:
        other = load_other(config.against, dataset.facts(), [loss.name for loss in config.losses], config.seeds)
    results = run_all(partial(train, progress=False), runs, jobs, "training runs")
    documents = documents_of(runs, results)
    summary = summarize(results)
    commands, folders = commands_of("htc-train", "train", runs), [result["run_dir"] for result in results]
    summary["runs"] = list_runs(
        [label(run.loss.name) for run in runs], runs, [headline(r["test"]) for r in results], commands, folders
    )
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    write_json(output / "summary.json", summary)
    more = [errors_of(runs, results)]
    if other is not None and config.against is not None:
        more.insert(0, against_section(summary, other, config.against))
    return write_htc_report(output, config.title, summary, command, documents, more)


def documents_of(runs: list[TrainConfig], results: list[dict[str, Any]]) -> Documents | None:
    """The scores of each run's test documents, by loss, and which documents these are."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for result in results:
        file = Path(result["run_dir"]) / PER_DOCUMENT
        if not file.exists():
            log.warning(
                "%s is missing, so that the report has no intervals over documents; remove the run to run it again", file
            )
            return None
        try:
            found.setdefault(result["loss"], []).append(load_file(file))
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"{file} is damaged ({error}); remove the run to run it again.") from error
    first = next(iter(found))
    datasets = [run.dataset for run, result in zip(runs, results, strict=True) if result["loss"] == first]
    hashes: list[np.ndarray] = []
    for number, dataset in enumerate(datasets):
        same = number and dataset == datasets[number - 1]
        hashes.append(hashes[-1] if same else load_dataset(dataset).text_hashes("test").numpy())
    return Documents(found, hashes)


def errors_of(runs: list[TrainConfig], results: list[dict[str, Any]]) -> Section:
    """What the objective with the best dev HF1-AUC over seeds gets wrong, looked at in its first run."""
    by_loss: dict[str, list[float]] = {}
    for result in results:
        by_loss.setdefault(result["loss"], []).append(result["dev"]["hf1_auc"])
    best = max(by_loss, key=lambda loss: float(np.mean(by_loss[loss])))
    run, result = next((run, result) for run, result in zip(runs, results, strict=True) if result["loss"] == best)
    dataset = load_dataset(run.dataset)
    model = load_model(Path(result["run_dir"]) / "model")
    test = dataset.splits["test"]
    if run.encoder.frozen:  # the features of all documents are at hand
        vectors = cached_features(model.encoder, dataset.texts, run.cache_dir, run.encoder.batch_size)[test]
    else:
        texts = [dataset.texts[i] for i in test.tolist()]
        vectors = model.encoder.embed(texts, run.encoder.batch_size, progress="encoding texts")
    name = f"The model with the best dev HF1-AUC ({label(best)})"
    return errors_section(name, dataset, model.probabilities(vectors), model.decoder, model.tuned_threshold)


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, shlex.join(["python", "-m", "htc.commands.reproduce", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")


def main() -> None:
    """The entry point."""
    register()
    run_application(_task, application="htc", config="reproduce", schema=ReproduceConfig)


if __name__ == "__main__":
    main()
