"""htc-evaluate: score a trained model on a split of a dataset, with 95% bootstrap intervals over documents for hF1.

htc-evaluate model=runs/htc/icd10cm/.../model
htc-evaluate model=... dataset=custom dataset.dir=my/documents split=dev output=scores.json
"""

import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from common.cli import run_application
from common.encoders import cached_features
from common.runs import write_json
from common.statistics import bootstrap
from htc import metrics
from htc.build import load_dataset
from htc.config import EvaluateConfig, register
from htc.errors import InputError
from htc.evaluation import decode, evaluate, summary_table
from htc.saved_model import load_model

log = logging.getLogger(__name__)


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """Score a saved model. Returns: `{split: scores}` as in a run's result.json, and where it comes from.

    Raises:
        InputError: if the dataset's hierarchy is not the model's, or the output file exists.
    """
    output = None if config.output is None else Path(config.output)
    if output is not None and output.exists():
        raise InputError(f"{output} exists; choose another output.")
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
    documents = dataset.splits[config.split]
    vectors = cached_features(model.encoder, [dataset.texts[i] for i in documents.tolist()], config.cache_dir)
    with torch.inference_mode():
        probabilities = model.probabilities(vectors)
    targets = dataset.targets[documents]
    scores = evaluate(probabilities, targets, dataset.hierarchy, model.tuned_threshold)
    for rule, row in scores["rules"].items():
        sets = decode(rule, probabilities, dataset.hierarchy, model.tuned_threshold)
        interval = bootstrap(metrics.hierarchical_f_per_document(sets, targets, dataset.hierarchy).tolist())
        row["hf1_samples_interval"] = [interval.low, interval.high]
    result = {"model": config.model, "dataset": dataset.facts(), config.split: scores}
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, result)
    return result


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, EvaluateConfig)
    print(summary_table(evaluate_model(typed), typed.split))


def main() -> None:
    """The console entry point."""
    register()
    run_application(_task, application="htc", config="evaluate", bad_input=(InputError,))


if __name__ == "__main__":
    main()
