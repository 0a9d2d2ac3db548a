"""htc-evaluate: score a trained model on a split of a dataset. hF1 has 95% bootstrap intervals over documents.

htc-evaluate model=runs/htc/icd10cm/.../model
htc-evaluate model=... dataset=custom dataset.dir=my/documents split=dev output=scores.json
"""

if __name__ == "__main__":  # before the slow imports
    from htc.commands import scripts

    scripts.evaluate()


import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from htc.datasets import Dataset
from htc.experiment.build import load_dataset
from htc.experiment.config import EvaluateConfig
from htc.experiment.saved_model import SavedModel, load_model
from htc.scoring.evaluate_rules import evaluate, summary_table
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
    model = load_model(config.model)
    dataset = load_dataset(config.dataset)
    if dataset.hierarchy != model.hierarchy:
        raise InputError(
            f"the model in {config.model} was trained on another hierarchy ({model.hierarchy.num_nodes} nodes) than that of "
            f"{dataset.name} ({dataset.hierarchy.num_nodes} nodes); evaluate it on the dataset that it was trained on."
        )
    if config.split not in dataset.splits:
        raise InputError(f"split must be one of {', '.join(dataset.splits)}, not {config.split!r}.")
    log.info("%s", dataset.describe())
    _refuse_seen(model, dataset, config.split)
    documents = dataset.splits[config.split]
    probabilities = model.probabilities_in_parts([dataset.texts[i] for i in documents.tolist()], cache_dir=config.cache_dir)
    targets = dataset.targets.select(documents)
    scores, per_document = evaluate(
        probabilities,
        targets,
        dataset.hierarchy,
        model.tuned_threshold,
        model.objective.one_path,
        dataset.targets.select(dataset.splits["train"]).sum(0),
        model.decoder,
    )
    for rule, row in scores["rules"].items():
        interval = bootstrap(per_document[rule].tolist())
        row["hf1_samples_interval"] = [interval.low, interval.high]
    result = {"model": config.model, "dataset": dataset.facts(), config.split: scores}
    if output is not None:
        write_json(output, result)
    return result


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
    print_result(summary_table(evaluate_model(typed), typed.split))
