"""A trained model as a folder that is all one needs to predict.

config.json            model, objective, sizes of the head, use of the encoder, dataset, tuned threshold
hierarchy.json         the label hierarchy
head.safetensors       the weights of the head, or of what the model has in its place; nothing that it had in training alone
calibration.safetensors  temperatures and what answers with a promised coverage need (`htc.experiment.calibration`); models from
                       before it have none until `Predictor.calibrate` or `htc-evaluate calibrate=true` gives it
encoder/               the encoder, as transformers' AutoModel loads it. A frozen one may be absent: then it is loaded by name,
                       and its weights, config and tokenizer must be those that the head was trained on
result.json            the scores of its run, and README.md, its card, where `Predictor.save_pretrained` wrote it
manifest.json          a digest of each of these files, see `rlkl_htc_common.manifest`; written last
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from omegaconf import MISSING
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from htc.datasets import Dataset
from htc.decoding.by_name import check_rule
from htc.experiment.build import cut_texts, make_classifier, make_objective
from htc.experiment.calibration import CALIBRATION, Calibration, calibrate, check_temperature
from htc.experiment.config import HeadConfig, LossConfig, ModelConfig, TrainConfig, loss_schema, model_schema
from htc.experiment.inputs import Inputs, TokenInputs, VectorInputs
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.losses import Objective
from htc.models.classifier import Classifier
from htc.scoring.calibration import Tempered
from htc.scoring.parts import Probabilities
from htc.settings import FLAT, LossSettings
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.errors import InputError as ChangedError
from rlkl_htc_common.manifest import accepting, check_manifest, sealed
from rlkl_htc_common.models.encoders import TextEncoder, cached_features, load_encoder, settings_digests
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import write_json

UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)
ENCODER, RESULT = "encoder", "result.json"
FILES = ("config.json", "hierarchy.json", "head.safetensors", "seen.safetensors")
VECTORS = 256  # that a classifier takes at a time
Schema = TypeVar("Schema", bound=EncoderConfig | HeadConfig | LossConfig | ModelConfig)


@dataclass
class SavedModel:
    """A trained model, ready to use.

    Attributes:
        encoder: text -> vector.
        classifier: vector -> logits (its own encoder is None); or, of a model that reads tokens, token batch -> logits.
        objective: logits -> node probabilities.
        hierarchy: the labels.
        tuned_threshold: the threshold tuned on the dev split.
        decoder: the inference rule that suits it, see `htc.decoding.by_name.rule_for`.
        seen: a hash of each training text (`Dataset.text_hashes`).
        dataset: the config of the dataset that it was trained on.
        settings: what its config.json holds, with what models from before some settings are understood to have.
        calibration: what held-out documents say about it; None where none were.
    """

    encoder: TextEncoder
    classifier: Classifier
    objective: Objective
    hierarchy: Hierarchy
    tuned_threshold: float
    decoder: str
    seen: Tensor
    dataset: dict[str, Any]
    settings: dict[str, Any]
    calibration: Calibration | None = None

    def probabilities(self, vectors: Tensor) -> Tensor:
        """Node probabilities of text vectors. Args: vectors (B, dim). Returns: (B, N) on the CPU.

        Raises:
            InputError: for a model that reads tokens, see `probabilities_of`.
        """
        if self.classifier.reads_tokens:
            raise InputError("this model reads the tokens of texts, not their vectors; use probabilities_of(texts).")
        return VectorInputs(vectors).probabilities(self.classifier, self.objective, torch.arange(len(vectors)))

    def probabilities_of(
        self, texts: Sequence[str], batch_size: int = 32, cache_dir: str | Path | None = None, progress: str | None = None
    ) -> Tensor:
        """Node probabilities of texts.

        Args:
            batch_size: texts at a time.
            cache_dir: where vectors of texts are kept, for a model that reads these; None to keep none.
            progress: the label of a progress bar where vectors are not kept, None for no bar.

        Returns:
            (B, N) on the CPU.
        """
        inputs, at_once = self._inputs(texts, batch_size, cache_dir, progress)
        return inputs.probabilities(self.classifier, self.objective, torch.arange(len(texts)), at_once)

    def probabilities_in_parts(
        self, texts: Sequence[str], batch_size: int = 32, cache_dir: str | Path | None = None, progress: str | None = None
    ) -> Probabilities:
        """The same for any number of texts, see `htc.experiment.inputs.Inputs.in_parts`."""
        inputs, at_once = self._inputs(texts, batch_size, cache_dir, progress)
        return inputs.in_parts(self.classifier, self.objective, torch.arange(len(texts)), at_once)

    def calibrate(
        self, texts: Sequence[str], targets: SparseSets, batch_size: int = 32, cache_dir: str | Path | None = None
    ) -> None:
        """Fit what coverage and temperatures need on held-out documents. Args, raises: as `htc.experiment.calibration`."""
        inputs, at_once = self._inputs(texts, batch_size, cache_dir, None)
        documents = torch.arange(len(texts))
        self.calibration = calibrate(inputs, self.classifier, self.objective, documents, targets, at_once)

    def calibrated(self) -> Calibration:
        """The calibration. Raises InputError where there is none, with how to get it."""
        if self.calibration is None:
            raise InputError(
                "the model was saved without what a coverage or a temperature needs; get it from held-out documents: "
                "htc-evaluate model=FOLDER calibrate=true with the dataset's settings, or model.calibrate(texts, labels) in "
                "Python."
            )
        return self.calibration

    def with_temperature(self, temperature: str | None) -> "SavedModel":
        """The same model with probabilities of a temperature, see `htc.scoring.calibration.Tempered`.

        Args:
            temperature: `global` for one for all logits, `level` for one for each depth, None for none.

        Raises:
            InputError: for another one, or if the model has no calibration.
        """
        check_temperature(temperature)
        if temperature is None:
            return self
        tempered = Tempered(self.objective, self.calibrated().temperatures[temperature])
        return replace(self, objective=tempered.to(next(self.classifier.parameters()).device).eval())

    def _inputs(
        self, texts: Sequence[str], batch_size: int, cache_dir: str | Path | None, progress: str | None
    ) -> tuple[Inputs, int]:
        """The inputs, and how many the classifier takes at a time."""
        if self.classifier.reads_tokens:
            return TokenInputs(self.encoder, texts), batch_size
        if cache_dir is None:
            return VectorInputs(self.encoder.embed(texts, batch_size, progress)), VECTORS
        return VectorInputs(cached_features(self.encoder, texts, cache_dir, batch_size)), VECTORS


def save_model(
    folder: Path,
    config: TrainConfig,
    encoder: TextEncoder,
    classifier: Classifier,
    dataset: Dataset,
    tuned_threshold: float,
    decoder: str,
    calibration: Calibration | None = None,
) -> None:
    """Write the folder: the files, then their manifest. config.json goes last of them: a folder without it holds no model."""
    head = {name: weights.detach().cpu().contiguous() for name, weights in classifier.head.state_dict().items()}
    settings = {
        "encoder": asdict(config.encoder),
        "encoder_fingerprint": encoder.fingerprint() if config.encoder.frozen else None,
        "encoder_files": encoder.settings if config.encoder.frozen else None,
        "head": asdict(config.head),
        "model": asdict(config.model),
        "loss": asdict(config.loss),
        "dataset": {key: value for key, value in asdict(config.dataset).items() if key != "texts"},  # where texts were kept
        "tuned_threshold": tuned_threshold,
        "decoder": decoder,
        "hierarchy_fingerprint": dataset.hierarchy.fingerprint,
    }
    with sealed(folder):
        dataset.hierarchy.save(folder / "hierarchy.json")
        save_file(head, folder / "head.safetensors")
        save_file({"train": dataset.text_hashes("train")}, folder / "seen.safetensors")
        _save_calibration(folder, calibration)
        if not config.encoder.frozen:
            encoder.save_pretrained(folder / ENCODER)
        write_json(folder / "config.json", settings)


def load_model(folder: str | Path) -> SavedModel:
    """Load what `save_model` wrote, onto the GPU where there is one.

    Raises:
        InputError: if the folder is no model, is damaged or was changed, or its encoder is not the one that it was trained
            with.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        hint = f"; did you mean {folder / 'model'}?" if (folder / "model" / "config.json").exists() else "."
        raise InputError(f"{folder} is not the folder of a trained model: it has no config.json{hint}")
    try:
        check_manifest(folder, FILES)
    except ChangedError as error:
        raise InputError(str(error)) from error
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hierarchy = Hierarchy.load(folder / "hierarchy.json")
        weights = load_file(folder / "head.safetensors")
        seen = load_file(folder / "seen.safetensors")["train"]
        encoder_config, head = _made(EncoderConfig, config["encoder"]), _made(HeadConfig, config["head"])
        head.check()
        model = _made(model_schema(config.get("model", {"name": FLAT})["name"]), config.get("model", {"name": FLAT}))
        model.check()
        objective = make_objective(_made_loss(config["loss"]), hierarchy, train_targets=None)
        if hierarchy.fingerprint != config["hierarchy_fingerprint"]:
            raise ValueError("hierarchy.json is not the hierarchy that the model was trained on")
        decoder = str(config.get("decoder", "top_down"))  # models from before it was kept
        check_rule(decoder, objective.one_path)
        tuned_threshold, encoder_fingerprint = float(config["tuned_threshold"]), config["encoder_fingerprint"]
        encoder_files = dict(config.get("encoder_files") or {})  # models from before they were kept have none
        dataset = dict(config["dataset"])
        calibrated = (folder / CALIBRATION).exists()
        calibration = Calibration.load(folder / CALIBRATION, hierarchy) if calibrated else None
    except UNREADABLE as error:
        raise InputError(f"{folder}: the saved model is damaged ({type(error).__name__}: {error}); train it again.") from error
    encoder = _load_encoder(folder, encoder_config, encoder_fingerprint, encoder_files)
    try:
        layer = _hidden_layer(model)
        if layer is not None and weights[layer].shape != (head.hidden, encoder.dim):  # before one of that size takes memory
            raise ValueError("head.hidden is another")
        cut_texts(model, encoder, hierarchy)
        classifier = make_classifier(model, head, encoder, hierarchy, objective, trained=False, for_training=False)
        classifier.head.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: head.safetensors does not fit config.json and hierarchy.json.") from error
    device = next(encoder.parameters()).device
    return SavedModel(
        encoder.eval(),
        classifier.eval().to(device),
        objective.eval().to(device),
        hierarchy,
        tuned_threshold,
        decoder,
        seen,
        dataset,
        {**config, "model": asdict(model), "decoder": decoder},
        calibration,
    )


def save_calibration(folder: Path, calibration: Calibration) -> None:
    """Give a saved model a calibration, in place of one that it has. Raises InputError if the folder cannot be written."""
    check_manifest(folder, FILES)
    try:
        with sealed(folder):
            _save_calibration(folder, calibration)
    except OSError as error:
        raise InputError(f"{folder}: cannot save the calibration: {error.strerror or error}.") from error


def _save_calibration(folder: Path, calibration: Calibration | None) -> None:
    if calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)  # of a model that was here before
    else:
        calibration.save(folder / CALIBRATION)


def copy_model(
    source: Path,
    folder: Path,
    encoder: TextEncoder | None,
    result: Mapping[str, Any] | None,
    calibration: Calibration | None = None,
) -> None:
    """Write a saved model to another folder.

    Args:
        encoder: its encoder, to go with it; None: only if the source has it, too.
        result: the result of its training, for result.json.
        calibration: to go with it.

    Raises:
        InputError: if the source is no longer what it was, or the folder cannot be written.
    """
    check_manifest(source, FILES)
    inside = (source / ENCODER / "config.json").is_file()
    try:
        with sealed(folder):
            shutil.rmtree(folder / ENCODER, ignore_errors=True)  # of a model that was here before
            (folder / RESULT).unlink(missing_ok=True)
            for name in FILES:
                shutil.copyfile(source / name, folder / name)
            _save_calibration(folder, calibration)
            if inside:
                shutil.copytree(source / ENCODER, folder / ENCODER)
            elif encoder is not None:
                encoder.save_pretrained(folder / ENCODER)
            if result is not None:
                write_json(folder / RESULT, dict(result))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot save the model: {error.strerror}.") from error


def _load_encoder(folder: Path, config: EncoderConfig, fingerprint: str | None, files: dict[str, str]) -> TextEncoder:
    """The encoder in a model's folder, or elsewhere, as it was in training. Raises InputError."""
    inside = (folder / ENCODER / "config.json").is_file()
    if inside or not config.frozen:
        config = replace(config, name=str(folder / ENCODER))
    if not config.frozen:
        return load_encoder(config)
    if not inside:
        _refuse_changed_settings(folder, config.name, files)
    encoder = load_encoder(config)
    if encoder.fingerprint() != fingerprint:
        raise InputError(f"{folder}: the encoder {config.name!r} is not the one that the model was trained with.")
    return encoder


def _hidden_layer(model: ModelConfig) -> str | None:
    """The name of the weights whose size is the config's `head.hidden`, in head.safetensors."""
    return {"flat": "2.weight", "hgclr": "2.weight"}.get(
        model.name, "1.base.2.weight" if getattr(model, "on_top", False) else None
    )


def _refuse_changed_settings(folder: Path, encoder: str, digests: dict[str, str]) -> None:
    """Compare the config and the tokenizer of an encoder elsewhere with those of training. Raises InputError."""
    changed = [name for name, digest in settings_digests(encoder).items() if digests.get(name, digest) != digest]
    if changed:
        raise InputError(
            f"{folder}: the encoder {encoder!r} is not as it was when the model was trained: {', '.join(changed)} was damaged "
            "or changed. Take it from a copy, or train again; if it was changed on purpose, accept it: take encoder_files out "
            f"of {folder / 'config.json'}, then {accepting(folder)}"
        )


def _made(schema: type[Schema], values: dict[str, Any]) -> Schema:
    """A config as it was saved. Raises TypeError for values that are missing or of other types."""
    made = schema(**values)
    types = get_type_hints(schema)
    for field in fields(schema):
        value = getattr(made, field.name)
        kinds = get_args(types[field.name]) or (types[field.name],)
        is_number = type(value) in (int, float) and math.isfinite(value)
        fits = is_number if float in kinds and value is not None else type(value) in kinds
        if not fits or value == MISSING:
            raise TypeError(f"{field.name} is {value!r:.40}")
    return made


def _made_loss(values: dict[str, Any]) -> LossConfig:
    """The loss as it was saved; models from before hold settings, too, that their objective does not read."""
    settings = {key: value for key, value in values.items() if key not in LossSettings.__dataclass_fields__}
    schema = loss_schema(settings["name"])
    read = {each.name for each in fields(schema)}
    return _made(schema, settings | {key: value for key, value in values.items() if key in read})
