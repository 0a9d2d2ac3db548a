"""htc-evaluate: score a trained model on a split of a dataset. hF1 has 95% bootstrap intervals over documents.

htc-evaluate model=runs/htc/icd10cm/.../model
htc-evaluate model=... dataset=custom dataset.dir=my/documents split=dev output=scores.json
htc-evaluate model=... coverage=0.9           answers that promise 90% right ones: found on test, and over 20 random splits
htc-evaluate model=... temperature=level      scores of calibrated probabilities
htc-evaluate model=... calibrate=true         fits on dev what both need, and saves it with the model (htc-train does the same)
"""

if __name__ == "__main__":  # before the slow imports
    from htc.commands import scripts

    scripts.evaluate()


import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from htc.datasets import Dataset
from htc.decoding.conformal import check_coverage
from htc.decoding.rules import tune_threshold_in_parts
from htc.experiment.build import load_dataset
from htc.experiment.calibration import CALIBRATION, check_temperature, halves
from htc.experiment.config import DATASETS, EvaluateConfig
from htc.experiment.saved_model import SavedModel, load_model, save_calibration
from htc.labels.sparse_sets import SparseSets
from htc.scoring.coverage import AnswerScores, coverage_on, coverage_over_splits, coverage_table
from htc.scoring.evaluate_rules import evaluate, summary_table
from htc.scoring.parts import Probabilities, with_targets
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.statistics import bootstrap
from rlkl_htc_common.runs.directory import make_folder, write_json

log = logging.getLogger(__name__)


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """Score a saved model. Returns: `{split: scores}` as in a run's result.json, with model and dataset.

    Raises:
        InputError: if the dataset's hierarchy is not the model's, or the output file exists.
    """
    output = None if config.output is None else Path(config.output)
    if output is not None:
        if output.exists():
            raise InputError(f"{output} exists; choose another output.")
        make_folder(output.parent)
    check_temperature(config.temperature)
    if config.coverage is not None:
        check_coverage(config.coverage)
        if config.split != "test":
            raise InputError(f"a coverage is promised from dev and scored on test; leave split={config.split} out.")
    model = load_model(config.model)
    dataset = load_dataset(config.dataset, None, config.cache_dir)
    if dataset.hierarchy != model.hierarchy:
        raise InputError(
            f"the model in {config.model} was trained on another hierarchy ({model.hierarchy.num_nodes} nodes) than that of "
            f"{dataset.name} ({dataset.hierarchy.num_nodes} nodes); evaluate it on the dataset that it was trained on"
            f"{_given_by(model.dataset)}."
        )
    if config.split not in dataset.splits:
        raise InputError(f"split must be one of {', '.join(dataset.splits)}, not {config.split!r}.")
    log.info("%s", dataset.describe())
    _refuse_seen(model, dataset, config.split)
    _calibrate(config, model, dataset)
    model = model.with_temperature(config.temperature)
    tuned = model.tuned_threshold
    if config.temperature is not None:
        tuned = tune_threshold_in_parts(partial(with_targets, *_scored(config, model, dataset, "dev")), dataset.hierarchy)
    probabilities, targets = _scored(config, model, dataset, config.split)
    scores, per_document = evaluate(
        probabilities,
        targets,
        dataset.hierarchy,
        tuned,
        model.objective.one_path,
        dataset.targets.select(dataset.splits["train"]).sum(0),
        model.decoder,
    )
    for rule, row in scores["rules"].items():
        interval = bootstrap(per_document[rule].tolist())
        row["hf1_samples_interval"] = [interval.low, interval.high]
    if config.coverage is not None:
        scores["coverage"] = _coverage(config, config.coverage, model, dataset, probabilities)
    result = {"model": config.model, "dataset": dataset.facts(), config.split: scores}
    if output is not None:
        write_json(output, result)
    return result


def _scored(config: EvaluateConfig, model: SavedModel, dataset: Dataset, split: str) -> tuple[Probabilities, SparseSets]:
    """The probabilities and the label sets of a split."""
    documents = dataset.splits[split]
    texts = dataset.texts_of(documents)
    return model.probabilities_in_parts(texts, cache_dir=config.cache_dir), dataset.targets.select(documents)


def _calibrate(config: EvaluateConfig, model: SavedModel, dataset: Dataset) -> None:
    """Calibrate the model on dev where that is asked for, or it has no calibration and needs one."""
    needed = config.coverage is not None or config.temperature is not None
    if needed or config.calibrate:
        _refuse_seen(model, dataset, "dev")
    if config.calibrate or (needed and model.calibration is None):
        documents = dataset.splits["dev"]
        texts = dataset.texts_of(documents)
        model.calibrate(texts, dataset.targets.select(documents), cache_dir=config.cache_dir)
    if config.calibrate:
        save_calibration(Path(config.model), model.calibrated())
        log.info("%s: %d documents of dev", Path(config.model) / CALIBRATION, len(dataset.splits["dev"]))


def _coverage(
    config: EvaluateConfig, coverage: float, model: SavedModel, dataset: Dataset, on_test: Probabilities
) -> dict[str, Any]:
    """Coverage and depth of answers: on test by the model's calibration, and over random splits of dev and test."""
    calibration = model.calibrated()
    scored = partial(AnswerScores.of, hierarchy=dataset.hierarchy, several=calibration.several)
    test = scored(on_test, dataset.targets.select(dataset.splits["test"]))
    dev = scored(*_scored(config, model, dataset, "dev"))
    if config.temperature is not None:  # without the documents that it was fitted on
        dev = dev.select(halves(len(dev))[1])
    found = coverage_on(test, calibration.threshold(coverage, config.temperature), coverage)
    return found | {"over_splits": coverage_over_splits(AnswerScores.joined(dev, test), len(dev), coverage)}


def _given_by(dataset: Mapping[str, Any]) -> str:
    """How to name a dataset on the command line. Args: dataset: the config that a model was trained with."""
    if dataset.get("name") not in DATASETS:
        return ""
    places = [f"dataset.{key}={dataset[key]}" for key in ("dir", "file") if dataset.get(key)]
    return f": {' '.join(['dataset=' + dataset['name'], *places])}"


def _refuse_seen(model: SavedModel, dataset: Dataset, split: str) -> None:
    """Raise InputError if the split was drawn with other settings than in training and holds training documents."""
    if split == "train" or torch.equal(dataset.text_hashes("train"), model.seen):
        return
    seen = int(torch.isin(dataset.text_hashes(split), model.seen).sum())
    if seen:
        keys = ("split_seed", "dev_fraction", "test_fraction", "max_documents")
        settings = " ".join(f"dataset.{key}={model.dataset[key]}" for key in keys if model.dataset.get(key) is not None)
        raise InputError(
            f"{seen} of the {len(dataset.splits[split])} documents of the split {split!r} were trained on; draw the splits as "
            f"the training did: {settings}"
        )


def task(config: DictConfig) -> None:
    """htc-evaluate."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, EvaluateConfig)
    result = evaluate_model(typed)
    coverage = result[typed.split].get("coverage")
    lines = [] if coverage is None else coverage_table(coverage, typed.split)
    print_result("\n".join([summary_table(result, typed.split), *lines]))
