"""htc-train: train one classifier and score it under every inference rule.

htc-train                                              icd10cm, MiniLM frozen, the objective that suits the labels
htc-train loss=conditional_softmax_la seed=1
htc-train model=hitin loss=conditional_softmax         a model that knows the hierarchy; hgclr and hbgl fine-tune MiniLM
htc-train dataset=custom dataset.dir=my/documents encoder=minilm
htc-train --multirun loss=bce,conditional_softmax seed=0,1,2
torchrun --nproc-per-node 2 -m htc.commands.train encoder=minilm   two processes (GPUs, where there are any), same batches
"""

if __name__ == "__main__":  # before what takes seconds to import
    from htc.commands import scripts

    scripts.train()


import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from htc.datasets import Dataset
from htc.datasets.cells import Cells
from htc.decoding.by_name import ALL_RULES, rule_for, rules_for
from htc.decoding.rules import tune_threshold_in_parts
from htc.experiment.build import (
    check_model,
    choose_loss,
    choose_mixing,
    cut_texts,
    load_dataset,
    make_classifier,
    make_objective,
)
from htc.experiment.calibration import FEWEST, Calibration, calibrate
from htc.experiment.config import LINEAR, FinetuningConfig, TrainConfig
from htc.experiment.identity import identity_of, plainest_config
from htc.experiment.inputs import Inputs, TokenInputs, VectorInputs
from htc.experiment.saved_model import save_model
from htc.labels.label_sets import CELLS
from htc.losses import Objective, recursive_regularization
from htc.losses.base import UnsuitableTargetsError
from htc.models.classifier import Classifier
from htc.report.documents import worst_table
from htc.scoring.evaluate_rules import SELECTABLE, decode_in_parts, evaluate, score_epoch, summary_table
from htc.scoring.parts import with_targets
from htc.settings import AUTO, FLAT, MODELS
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import TextEncoder, cached_features, load_encoder
from rlkl_htc_common.runs.directory import RunDirectory, config_hash
from rlkl_htc_common.runs.tracking import Tracker, open_tracker, wandb_mode
from rlkl_htc_common.training.checkpoints import Checkpoints
from rlkl_htc_common.training.cost import Stopwatch, peak_memory, reset_peak_memory
from rlkl_htc_common.training.trainer import (
    FIXED,
    LARGE,
    Trainer,
    TrainingData,
    constant,
    linear,
    make_accelerator,
    parameter_groups,
    warn_without_gpu,
)

log = logging.getLogger(__name__)

PER_DOCUMENT = "documents.safetensors"  # name of a rule, or hf1_auc -> the score of each test document
MEASURED = 2000  # documents whose vectors tell mean and variance
MEASURED_VECTORS = 2**17  # the same, where vectors are computed anyway
DEV_SCORES = ("dev/hf1_auc", "dev/hf1_micro")  # what an epoch can be selected by


def run_directory(config: TrainConfig, identity: dict[str, Any]) -> Path:
    """Where a run is: `run_dir`, or a folder under `runs` whose name ends in the hash of the config and the documents."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    parts = [] if config.model.name == FLAT else [config.model.name]
    parts += [config.loss.name] if MODELS[config.model.name].own_loss is None else []
    name = "-".join([*parts, f"seed{config.seed}", config_hash(identity)])
    return Path(config.runs) / "htc" / config.dataset.name / name


def make_inputs(config: TrainConfig, encoder: TextEncoder, texts: Sequence[str], progress: bool = True) -> Inputs:
    """Cached vectors where the encoder is frozen, else token ids."""
    if config.encoder.frozen:
        return VectorInputs(cached_features(encoder, texts, config.cache_dir, config.encoder.batch_size, progress))
    return TokenInputs(encoder, texts)


def first_vectors(config: TrainConfig, encoder: TextEncoder, inputs: Inputs, dataset: Dataset) -> Tensor:
    """Vectors of training documents before training, (n, dim): of very many where the encoder is frozen, else of some."""
    documents = dataset.splits["train"]
    if isinstance(inputs, VectorInputs):
        return inputs.batch(documents[:: math.ceil(len(documents) / MEASURED_VECTORS)])
    some = dataset.texts_of(documents[:: math.ceil(len(documents) / MEASURED)])
    vectors = cached_features(encoder, some, config.cache_dir, config.encoder.batch_size)
    return vectors[torch.arange(len(some))]


def train(
    config: TrainConfig,
    progress: bool = True,
    tables: Mapping[str, Cells] | None = None,
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Train and evaluate what the config says; a finished run is not run again.

    Args:
        progress: whether to show bars.
        tables: the documents by split, in place of the files of a table's config.
        dataset: what `load_dataset` gives for the config, where it is there already.

    Returns:
        The content of the run's result.json, and `run_dir`.
    """
    check(config)
    accelerator = make_accelerator(config.training.precision)
    if dataset is None:
        dataset = load_dataset(config.dataset, tables, config.cache_dir)
    targets = dataset.targets.select(dataset.splits["train"])
    config = plainest_config(replace(config, model=choose_mixing(config.model, dataset.hierarchy)))
    if config.loss.name == AUTO:  # before the run has a name: it is the one that the chosen loss would have by name
        loss, reason = choose_loss(config.loss, dataset.hierarchy, targets)
        config = plainest_config(replace(config, loss=loss))
        if accelerator.is_main_process:
            log.info("%s", reason)
    objective = make_objective(config.loss, dataset.hierarchy, targets)
    check_targets(objective, dataset)
    check_select(config, objective)
    identity = identity_of(config) | {"data_fingerprint": dataset.fingerprint()}
    with accelerator.main_process_first():
        run = RunDirectory(run_directory(config, identity), identity, reasons=FIXED)
    result = run.once(
        partial(_train, run, config, dataset, objective, accelerator, progress),
        clean=Checkpoints(run.checkpoints).remove,
        main=accelerator.is_main_process,
        wait=accelerator.wait_for_everyone,
    )
    return result | {"run_dir": str(run.path)}


def warn_if_slow(config: TrainConfig, runs: int = 1) -> None:
    """Warn before a large encoder is fine-tuned without a GPU. Args: runs: how many trainings there will be."""
    if not config.encoder.frozen and config.encoder.has_parameters(LARGE):
        each = "" if runs == 1 else f" for each of {runs} runs"
        instead = "encoder=minilm_frozen takes minutes (as profile=embedded has it)"
        warn_without_gpu(f"fine-tuning {config.encoder.name}", f"days{each}", instead)


def check(config: TrainConfig) -> None:
    """Refuse what could only fail later. Raises InputError."""
    config.training.check()
    config.encoder.check()
    config.head.check()
    config.loss.check()
    check_model(config)
    wandb_mode(config.tracking)
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed must be from 0 to 2**32 - 1, not {config.seed}.")
    if config.training.patience and config.select is None:
        raise InputError("training.patience needs a score that epochs are selected by; set select, or patience=null.")
    if config.select not in (None, *DEV_SCORES) and _rule_and_metric(config.select) is None:
        raise InputError(
            f"select must be null, one of {', '.join(DEV_SCORES)}, or dev/RULE/METRIC, such as dev/top_down/f1_macro, not "
            f"{config.select!r}."
        )


def check_select(config: TrainConfig, objective: Objective) -> None:
    """Refuse to select epochs by a rule that is not defined for the objective. Raises InputError."""
    named = _rule_and_metric(config.select)
    if named is not None and named[0] not in rules_for(objective.one_path):
        raise InputError(
            f"select={config.select}: the rule {named[0]} takes the probabilities of one path, and those of "
            f"{config.loss.name} are of several; use one of {', '.join(rules_for(objective.one_path))}."
        )


def _train(
    run: RunDirectory,
    config: TrainConfig,
    dataset: Dataset,
    objective: Objective,
    accelerator: Accelerator,
    progress: bool,
) -> dict[str, Any]:
    log.info("%s", dataset.describe())
    run.log_runs_not_continued()
    reset_peak_memory()
    encoder = _encoder(config, dataset)
    with accelerator.main_process_first():  # which computes features for all
        inputs = make_inputs(config, encoder, dataset.texts, progress)
        vectors = first_vectors(config, encoder, inputs, dataset) if MODELS[config.model.name].head else None
    documents = dataset.splits["train"]
    torch.manual_seed(config.seed)
    model = _new_model(config, encoder, dataset, objective, vectors)
    objective.to(accelerator.device)
    data = TrainingData(
        size=len(documents),
        collate=partial(_collate, model, inputs, dataset, documents),
        lengths=inputs.lengths(documents),
    )
    trainer = Trainer(
        model,
        lambda epoch: data,
        partial(_loss, objective, model, getattr(config.loss, "recursive_regularization", None)),
        config.training,
        seed=config.seed,
        accelerator=accelerator,
        checkpoints=Checkpoints(run.checkpoints),
        evaluate=partial(_score_dev, config.select, model, objective, dataset, inputs, accelerator),
        select=config.select,
        patience=config.training.patience,
        optimizers=[_optimizer(model, config.training)],
        decay=linear if config.training.decay == LINEAR else constant,
        items="documents",
        progress=progress,
    )
    main, step = accelerator.is_main_process, trainer.resume()
    if step is None:
        with trainer.stopwatch:
            model.prepare(config.seed)
    with open_tracker(run, config.tracking, main=main, job_type="train", resume_step=step) as tracker:
        kept = trainer.fit(tracker)
        scores, predicting = _score(run, tracker, model, objective, dataset, inputs, accelerator)
        if tracker is not None:
            tracker.summarize(kept | headline(scores["test"]))
    if main:
        tuned, decoder = scores["test"]["tuned_threshold"], scores["test"]["decoder"]
        calibration = _calibration(model, objective, dataset, inputs)
        save_model(run.path / "model", config, encoder, model, dataset, tuned, decoder, calibration)
        facts = {"dataset": dataset.facts(), "model": config.model.name, "loss": config.loss.name}
        run.write_result(**facts, kept=kept, cost=_cost(trainer.stopwatch, predicting), **scores)
    accelerator.wait_for_everyone()
    result = run.result()
    assert result is not None
    return result


def _new_model(
    config: TrainConfig, encoder: TextEncoder, dataset: Dataset, objective: Objective, vectors: Tensor | None
) -> Classifier:
    """The model before training. Args: vectors: of documents, where it has a head that may be standardised on them."""
    model = make_classifier(config.model, config.head, encoder, dataset.hierarchy, objective, trained=not config.encoder.frozen)
    if config.head.standardize and vectors is not None:
        model.standardize(vectors)
    if objective.initial_bias is not None:
        model.set_output_bias(objective.initial_bias)
    return model


def _cost(training: Stopwatch, predicting: Stopwatch | None) -> dict[str, float | None]:
    """What a run cost, as `htc.report.records.Cost` holds it."""
    return {
        "training_seconds": round(training.seconds, 3),
        "training_processor_seconds": round(training.processor_seconds, 3),
        "prediction_seconds": None if predicting is None else round(predicting.seconds, 6),
        "prediction_processor_seconds": None if predicting is None else round(predicting.processor_seconds, 6),
        "memory": peak_memory(),
        "gpu": torch.cuda.is_available(),
    }


def _encoder(config: TrainConfig, dataset: Dataset) -> TextEncoder:
    """The encoder, which cuts texts where the model needs it."""
    encoder = load_encoder(config.encoder)
    cut_texts(config.model, encoder, dataset.hierarchy)
    if encoder.max_length < config.encoder.max_length:
        log.info("model=%s: texts are cut after %d tokens, to leave room for labels.", config.model.name, encoder.max_length)
    return encoder


def _optimizer(model: Classifier, config: FinetuningConfig) -> torch.optim.Optimizer:
    groups = parameter_groups(model, config.learning_rate, config.weight_decay, config.encoder_learning_rate)
    return torch.optim.AdamW(groups, fused=True)


def _collate(
    model: Classifier, inputs: Inputs, dataset: Dataset, documents: Tensor, rows: Tensor
) -> tuple[Tensor | dict[str, Tensor], Tensor]:
    """The model's inputs, with the targets among them where it computes its own loss; and the targets."""
    batch, targets = inputs.batch(documents[rows]), dataset.targets[documents[rows]]
    if model.own_loss:
        assert isinstance(batch, dict)
        batch = batch | {"targets": targets}
    return batch, targets


def _loss(objective: Objective, model: Classifier, regularization: float | None, output: Tensor, targets: Tensor) -> Tensor:
    """The loss of the model's output, with the recursive regularisation of output layers where the config asks for it."""
    loss = output if model.own_loss else objective.loss(output, targets)
    if regularization:
        for weight in model.output_weights:
            loss = loss + regularization * recursive_regularization(weight, objective.hierarchy)
    return loss


def _rule_and_metric(select: str | None) -> tuple[str, str] | None:
    """The rule and the metric in dev/RULE/METRIC; None for anything else."""
    match (select or "").split("/"):
        case ["dev", rule, metric] if rule in ALL_RULES and not ALL_RULES[rule].tuned and metric in SELECTABLE:
            return rule, metric
    return None


def _score_dev(
    select: str | None,
    model: Classifier,
    objective: Objective,
    dataset: Dataset,
    inputs: Inputs,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The scores of one epoch, from which the best epoch is chosen."""
    documents = dataset.splits["dev"]
    probabilities = inputs.in_parts(model, objective, documents, accelerator=accelerator)
    rule, metric = _rule_and_metric(select) or (None, "")
    *found, of_rule = score_epoch(probabilities, dataset.targets.select(documents), dataset.hierarchy, rule)
    scores = dict(zip(DEV_SCORES, found, strict=True))
    return scores if rule is None or select is None else scores | {select: of_rule.compute()[metric]}


def _score(
    run: RunDirectory,
    tracker: Tracker | None,
    model: Classifier,
    objective: Objective,
    dataset: Dataset,
    inputs: Inputs,
    accelerator: Accelerator,
) -> tuple[dict[str, Any], Stopwatch | None]:
    """Every metric on dev and test, with the threshold tuned on dev; the scores of each test document go into a file.

    Every inference rule is applied to test, and the default rule to dev, where `htc-evaluate split=dev` applies the others.

    Returns: the scores by split, and the time that the probabilities of test took; None where they are too many for memory, and
    are computed whenever they are read.
    """
    tuned = 0.5
    scores = {}
    training_targets = dataset.targets.select(dataset.splits["train"])
    decoder = rule_for(objective.one_path, training_targets, dataset.hierarchy)
    for split in ("dev", "test"):
        documents = dataset.splits[split]
        with Stopwatch() as predicting:
            probabilities = inputs.in_parts(model, objective, documents, accelerator=accelerator)
        targets = dataset.targets.select(documents)
        if split == "dev":
            tuned = tune_threshold_in_parts(partial(with_targets, probabilities, targets), dataset.hierarchy)
        training_counts = training_targets.sum(0)
        scores[split], per_document = evaluate(
            probabilities,
            targets,
            dataset.hierarchy,
            tuned,
            objective.one_path,
            training_counts,
            decoder,
            rules=[decoder] if split == "dev" else None,
        )
    if tracker is not None:  # of the last split, test
        save_file(per_document, run.path / PER_DOCUMENT)
        if tracker.takes_documents:
            texts = dataset.texts_of(documents)
            predicted = decode_in_parts(decoder, probabilities, dataset.hierarchy, tuned)
            table = worst_table(dataset.hierarchy, texts, targets, predicted, probabilities)
            tracker.table("worst documents", table.columns, table.rows)
    return scores, predicting if isinstance(probabilities, Tensor) else None


def _calibration(model: Classifier, objective: Objective, dataset: Dataset, inputs: Inputs) -> Calibration | None:
    """What dev says about the model, for answers with a promised coverage; None where dev is a single document."""
    documents = dataset.splits["dev"]
    if len(documents) < FEWEST:
        log.warning("dev has fewer than %d documents, so that the model is saved without a calibration.", FEWEST)
        return None
    return calibrate(inputs, model, objective, documents, dataset.targets.select(documents))


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """The numbers that runs are compared by. Args: scores: as `evaluate` gives them, of the test split."""
    return {"test/hf1_auc": scores["hf1_auc"]} | {
        f"test/{rule}/hf1_micro": of_rule["hf1_micro"] for rule, of_rule in scores["rules"].items()
    }


def check_targets(objective: Objective, dataset: Dataset) -> None:
    """Refuse a dataset that the objective cannot be trained on. Raises InputError naming the document's place."""
    for documents in dataset.splits["train"].split(max(1, CELLS // dataset.hierarchy.num_nodes)):
        try:
            objective.check_targets(dataset.targets[documents])
        except UnsuitableTargetsError as error:
            number = int(documents[error.document])
            place = dataset.places[number] if dataset.places else f"document {number} ({dataset.texts[number][:40]!r})"
            raise InputError(f"{place}: {error.problem}") from error


def task(config: DictConfig) -> dict[str, Any]:
    """htc-train."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, TrainConfig)
    warn_if_slow(typed)
    result = train(typed)
    if PartialState().is_main_process:
        print_result(f"{summary_table(result)}\nrun: {result['run_dir']}")
    selected = typed.select or DEV_SCORES[0]
    dev = {key: value for key, value in result["kept"].items() if key.startswith("dev/")}
    metrics = {selected: dev.pop(selected)} | dev | headline(result["test"])
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics[selected]}
