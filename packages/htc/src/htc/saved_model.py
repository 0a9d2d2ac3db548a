"""A trained model as a folder that is all one needs to predict.

config.json            the objective, the head's sizes, how the encoder is used, the tuned threshold
hierarchy.json         the label hierarchy
head.safetensors       the weights of the head
encoder/               the fine-tuned encoder, as transformers' AutoModel loads it; absent where it was frozen: then it is
                       loaded by name, and its weights must be those that the head was trained on
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.encoders import EncoderConfig, TextEncoder, load_encoder
from common.runs import write_json
from htc.build import make_objective
from htc.config import HeadConfig, LossConfig
from htc.errors import InputError
from htc.hierarchy import Hierarchy
from htc.losses import Objective
from htc.model import Classifier


@dataclass
class SavedModel:
    """A trained model, ready to use.

    Attributes:
        encoder: text -> vector.
        classifier: vector -> logits (its own encoder is None).
        objective: logits -> node probabilities.
        hierarchy: the labels.
        tuned_threshold: the threshold tuned on the dev split.
    """

    encoder: TextEncoder
    classifier: Classifier
    objective: Objective
    hierarchy: Hierarchy
    tuned_threshold: float

    def probabilities(self, vectors: Tensor) -> Tensor:
        """Node probabilities of text vectors. Args: vectors (B, dim). Returns: (B, N)."""
        self.classifier.eval()
        return self.objective.probabilities(self.classifier(vectors))


def save_model(
    folder: Path,
    encoder: TextEncoder,
    encoder_config: EncoderConfig,
    classifier: Classifier,
    head: HeadConfig,
    loss: LossConfig,
    hierarchy: Hierarchy,
    tuned_threshold: float,
) -> None:
    """Write the folder; config.json goes last, so that a folder without it is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    hierarchy.save(folder / "hierarchy.json")
    save_file({k: v.detach().cpu().contiguous() for k, v in classifier.head.state_dict().items()}, folder / "head.safetensors")
    if not encoder_config.frozen:
        encoder.save_pretrained(folder / "encoder")
    write_json(
        folder / "config.json",
        {
            "encoder": asdict(encoder_config),
            "encoder_fingerprint": encoder.fingerprint() if encoder_config.frozen else None,
            "head": asdict(head),
            "loss": asdict(loss),
            "tuned_threshold": tuned_threshold,
            "hierarchy_fingerprint": hierarchy.fingerprint,
        },
    )


def load_model(folder: str | Path) -> SavedModel:
    """Load what `save_model` wrote.

    Raises:
        InputError: if the folder is no model, is damaged, or its encoder is not the one that it was trained with.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        hierarchy = Hierarchy.load(folder / "hierarchy.json")
        weights = load_file(folder / "head.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{folder}: the saved model is damaged ({error}); train it again.") from error
    if hierarchy.fingerprint != config["hierarchy_fingerprint"]:
        raise InputError(f"{folder}: hierarchy.json is not the hierarchy that the model was trained on.")
    encoder_config = EncoderConfig(**config["encoder"])
    if encoder_config.frozen:
        encoder = load_encoder(encoder_config)
        if encoder.fingerprint() != config["encoder_fingerprint"]:
            raise InputError(f"{folder}: the encoder {encoder_config.name!r} is not the one that the model was trained with.")
    else:
        encoder = load_encoder(replace(encoder_config, name=str(folder / "encoder")))
    head = HeadConfig(**config["head"])
    objective = make_objective(LossConfig(**config["loss"]), hierarchy, train_targets=None)
    classifier = Classifier(None, encoder.dim, head.hidden, objective.num_outputs, head.dropout)
    try:
        classifier.head.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder}: head.safetensors does not fit config.json and hierarchy.json.") from error
    return SavedModel(encoder.eval(), classifier.eval(), objective.eval(), hierarchy, config["tuned_threshold"])


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        hint = f"; did you mean {folder / 'model'}?" if (folder / "model" / "config.json").exists() else ""
        raise InputError(f"{folder} is not the folder of a trained model (it has no config.json){hint}")
    config = json.loads(file.read_text(encoding="utf-8"))
    missing = {"encoder", "head", "loss", "tuned_threshold", "hierarchy_fingerprint"} - config.keys()
    if missing:
        raise InputError(f"{file}: not a model of htc-train: it lacks {', '.join(sorted(missing))}.")
    return config
