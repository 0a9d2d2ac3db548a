"""Settings of an encoder. Does not import torch, so that configs compose quickly."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from rlkl_htc_common.errors import InputError

POOLINGS = ("mean", "cls", "pooler")
PACKAGED = "minilm"


@dataclass
class EncoderConfig:
    """An encoder and how it is used.

    Attributes:
        name: `minilm` (installed as a package, no download), a local folder, or a name on the Hugging Face hub.
        pooling: mean over tokens, the first token (cls), or the model's own pooler.
        max_length: texts are cut after this many tokens.
        frozen: do not train the weights; features are then computed once and cached.
        batch_size: texts per batch when no gradient is needed.
    """

    name: str = MISSING
    pooling: str = "mean"
    max_length: int = MISSING
    frozen: bool = True
    batch_size: int = MISSING

    def has_parameters(self, many: int) -> bool:
        """Whether the encoder has at least this many parameters; assumed true for an encoder on the hub."""
        if self.name == PACKAGED:
            return many <= 22_700_000
        folder = Path(self.name)
        return not folder.is_dir() or sum(file.stat().st_size for file in folder.glob("*.safetensors")) >= 4 * many

    def check(self) -> None:
        """Raise InputError for a batch size below 1; the rest is checked when the encoder is loaded."""
        if self.batch_size < 1:
            raise InputError(f"encoder.batch_size must be at least 1, not {self.batch_size}.")
