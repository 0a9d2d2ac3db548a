"""htc-train: train one classifier and score it under every inference rule.

    htc-train                                              icd10cm, MiniLM frozen, bce
    htc-train loss=conditional_softmax_la seed=1
    htc-train dataset=custom dataset.dir=my/documents encoder=minilm training=finetune
    htc-train --multirun loss=bce,conditional_softmax seed=0,1,2
"""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common.checkpoints import Checkpoints
from common.cli import run_application
from common.encoders import TextEncoder, cached_features, load_encoder
from common.runs import RunDirectory, config_hash
from common.tracking import Tracker
from common.training import Trainer, TrainingData, make_accelerator
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from htc import decoding, metrics
from htc.build import load_dataset, make_objective
from htc.config import TrainConfig, register
from htc.datasets import Dataset
from htc.errors import InputError
from htc.evaluation import evaluate
from htc.losses import Objective
from htc.model import Classifier, predict_in_batches
from htc.saved_model import save_model

log = logging.getLogger(__name__)


def run_directory(config: TrainConfig) -> Path:
    """Where the run of a config is: `run_dir`, or a folder under `runs` whose name ends in the hash of the config."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    name = f"{config.loss.name}-seed{config.seed}-{config_hash(asdict(config))}"
    return Path(config.runs) / "htc" / config.dataset.name / name


def train(config: TrainConfig, progress: bool = True) -> dict[str, Any]:
    """Train and evaluate what the config says; a finished run is not run again.

    Returns:
        The content of the run's result.json.
    """
    run = RunDirectory(run_directory(config), asdict(config))
    finished = run.result()
    if finished is not None:
        log.info("already finished: %s", run.path)
        return finished
    dataset = load_dataset(config.dataset)
    log.info("%s", dataset.describe())
    encoder = load_encoder(config.encoder)
    inputs = _Inputs(config, dataset, encoder)
    train_targets = dataset.targets[dataset.splits["train"]]
    objective = make_objective(config.loss, dataset.hierarchy, train_targets)
    _check_targets(objective, train_targets)
    torch.manual_seed(config.seed)
    trained_encoder = None if config.encoder.frozen else encoder
    model = Classifier(trained_encoder, encoder.dim, config.head.hidden, objective.num_outputs, config.head.dropout)
    accelerator = make_accelerator(config.training.precision)
    objective.to(accelerator.device)
    trainer = Trainer(
        model,
        TrainingData(len(train_targets), inputs.collate_train, inputs.train_lengths),
        objective.loss,
        config.training,
        seed=config.seed,
        accelerator=accelerator,
        checkpoints=Checkpoints(run.checkpoints),
        evaluate=partial(_score_dev, model, objective, dataset, inputs),
        select=config.select,
        progress=progress,
    )
    tracker = partial(Tracker, run, config.tracking, job_type="train", name=run.path.name)
    kept = trainer.fit(lambda step: tracker(resume_step=step))
    return _finish(run, config, dataset, encoder, inputs, model, objective, kept)


def _finish(
    run: RunDirectory,
    config: TrainConfig,
    dataset: Dataset,
    encoder: TextEncoder,
    inputs: "_Inputs",
    model: Classifier,
    objective: Objective,
    kept: dict[str, float],
) -> dict[str, Any]:
    """Tune the threshold on dev, score dev and test, save the model, write the result."""
    hierarchy = dataset.hierarchy
    probabilities = {split: inputs.probabilities(model, objective, split) for split in ("dev", "test")}
    targets = {split: dataset.targets[dataset.splits[split]] for split in ("dev", "test")}
    tuned = decoding.tune_threshold(probabilities["dev"], targets["dev"], hierarchy)
    save_model(run.path / "model", encoder, config.encoder, model, config.head, config.loss, hierarchy, tuned)
    result = run.write_result(
        dataset={
            "name": dataset.name,
            "nodes": hierarchy.num_nodes,
            "leaves": len(hierarchy.leaves),
            "levels": [level.stop - level.start for level in hierarchy.levels],
            **{split: len(rows) for split, rows in dataset.splits.items()},
        },
        loss=config.loss.name,
        kept=kept,
        **{split: evaluate(probabilities[split], targets[split], hierarchy, tuned) for split in ("dev", "test")},
    )
    Checkpoints(run.checkpoints).remove()
    return result


class _Inputs:
    """The documents as the model takes them: vectors from the cache, or token ids."""

    def __init__(self, config: TrainConfig, dataset: Dataset, encoder: TextEncoder) -> None:
        self._dataset = dataset
        self._encoder = encoder
        self._batch_size = config.encoder.batch_size
        self._vectors: Tensor | None = None
        self._token_ids: list[list[int]] = []
        train = dataset.splits["train"]
        self.train_lengths: Tensor | None = None
        if config.encoder.frozen:
            self._vectors = cached_features(encoder, dataset.texts, config.cache_dir, self._batch_size)
        else:
            self._token_ids = encoder.tokenize(dataset.texts)
            self.train_lengths = torch.tensor([len(self._token_ids[i]) for i in train.tolist()])

    def batch(self, documents: Tensor) -> Tensor | dict[str, Tensor]:
        """The model's input for documents by number: (b,) int64."""
        if self._vectors is not None:
            return self._vectors[documents]
        return self._encoder.pad([self._token_ids[i] for i in documents.tolist()])

    def collate_train(self, rows: Tensor) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Inputs and targets for rows of the training split."""
        documents = self._dataset.splits["train"][rows]
        return self.batch(documents), self._dataset.targets[documents]

    def probabilities(self, model: Classifier, objective: Objective, split: str) -> Tensor:
        """Node probabilities of all documents of a split, in order: (n, N) on the CPU."""
        device = next(model.parameters()).device
        documents = self._dataset.splits[split]
        if self._vectors is not None:
            chunks = [self._vectors[documents].to(device)]
            order = torch.arange(len(documents))
        else:
            lengths = torch.tensor([len(self._token_ids[i]) for i in documents.tolist()])
            order = lengths.argsort(stable=True)
            chunks = [
                {k: v.to(device) for k, v in self._encoder.pad([self._token_ids[i] for i in part.tolist()]).items()}
                for part in documents[order].split(self._batch_size)
            ]
        probabilities = objective.probabilities(predict_in_batches(model, chunks)).cpu()
        return torch.empty_like(probabilities).index_copy_(0, order, probabilities)


def _score_dev(model: Classifier, objective: Objective, dataset: Dataset, inputs: _Inputs) -> dict[str, float]:
    probabilities = inputs.probabilities(model, objective, "dev")
    targets = dataset.targets[dataset.splits["dev"]]
    at_half = decoding.threshold(probabilities, dataset.hierarchy)
    return {
        "dev/hf1_auc": metrics.hf1_auc(probabilities, targets, dataset.hierarchy),
        "dev/hf1_micro": metrics.hierarchical_precision_recall_f(at_half, targets, dataset.hierarchy)[2],
    }


def _check_targets(objective: Objective, targets: Tensor) -> None:
    try:
        objective.check_targets(targets)
    except InputError as error:
        raise InputError(f"training split: {error}") from error


def summary_table(result: dict[str, Any], split: str = "test") -> str:
    """What a person wants to see at the end: the main metrics of each inference rule."""
    columns = ("hf1_micro", "hf1_samples", "f1_macro", "exact_match", "incoherence_rate")
    scores = result[split]
    lines = [f"{split}: {scores['documents']:,} documents, hF1-AUC {scores['hf1_auc']:.3f}"]
    lines.append(f"{'rule':<16}" + "".join(f"{name:>18}" for name in columns))
    lines += [f"{rule:<16}" + "".join(f"{row[name]:>18.3f}" for name in columns) for rule, row in scores["rules"].items()]
    return "\n".join(lines)


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, TrainConfig)
    result = train(typed)
    print(summary_table(result))
    print(f"run: {run_directory(typed)}")


def main() -> None:
    """The console entry point."""
    register()
    run_application(_task, application="htc", config="train", bad_input=(InputError,))


if __name__ == "__main__":
    main()
