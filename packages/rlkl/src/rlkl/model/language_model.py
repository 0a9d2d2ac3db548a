"""The language model: a small GPT-2 over characters, new or loaded from a folder."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from transformers import GPT2Config, GPT2LMHeadModel

from rlkl.tasks.registry import Task, task_named
from rlkl.tasks.tokenizer import character_tokenizer
from rlkl_htc_common.errors import InputError

WEIGHTS = "model.safetensors"
PRETRAINED = Path(__file__).parents[1] / "pretrained"  # the models in the package, by name
FIRST_TASK = "addition"  # the task of old models, whose config names none
# Errors that transformers raises for unreadable files.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ImportError, StrictDataclassError)


def new_model(
    task: Task, *, layers: int, heads: int, width: int, positions: int, dropout: float, trained_digits: int
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights; its config holds the task and the number of trained digits.

    Raises:
        InputError: for invalid sizes.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"architecture.dropout must be at least 0 and less than 1, not {dropout}.")
    if min(layers, heads, width, positions) < 1 or width % heads:
        raise InputError(
            f"architecture: {layers} layers, {heads} heads, width {width}, {positions} positions: "
            "all must be positive and the width a multiple of the heads."
        )
    tokenizer = character_tokenizer(task.CHARACTERS)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        embd_pdrop=dropout,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one kernel
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.task = task.NAME
    config.trained_digits = trained_digits
    return GPT2LMHeadModel(config)


def task_of(model: GPT2LMHeadModel) -> Task:
    """The task of a model."""
    return _task_in(model.config)


def _task_in(config: GPT2Config) -> Task:
    return task_named(str(getattr(config, "task", FIRST_TASK)))


def save_model(folder: Path, model: GPT2LMHeadModel, dtype: torch.dtype = torch.float32) -> None:
    """Save model and tokenizer for AutoModelForCausalLM and AutoTokenizer, with a manifest.

    Args: dtype: of the weights on disk.
    """
    from rlkl_htc_common.manifest import sealed  # here and below: this module must import without the experiments' extras

    stored = move(copy.deepcopy(model), torch.device("cpu"))
    torch.nn.Module.to(stored, dtype)
    stored.config.architectures = [type(model).__name__]
    stored.config.dtype = dtype
    with sealed(folder):
        stored.config.save_pretrained(folder)
        save_weights(stored, str(folder / WEIGHTS), metadata={"format": "pt"})
        character_tokenizer(task_of(model).CHARACTERS).save_pretrained(folder)


def move(model: GPT2LMHeadModel, device: torch.device) -> GPT2LMHeadModel:
    """Move a model to a device (type checkers cannot follow the types of transformers' `to`)."""
    torch.nn.Module.to(model, device)
    return model


def fingerprint(model: GPT2LMHeadModel) -> str:
    """A hash of a model's weights, independent of its folder."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def packaged_models() -> list[str]:
    """The names of the models in the package."""
    return sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir()) if PRETRAINED.is_dir() else []


def load_on_device(name: str) -> GPT2LMHeadModel:
    """`load_model`, then move it to the GPU if there is one."""
    return move(load_model(name), torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def load_model(name: str) -> GPT2LMHeadModel:
    """Load a model in float32, in eval mode, without dropout.

    Args:
        name: a folder, or the name of a model in the package.

    Raises:
        InputError: if there is none, it is damaged or changed, or it has another vocabulary or an unknown task.
    """
    known = packaged_models()
    folder = PRETRAINED / name if name in known else Path(name)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no model in {name!r}; give the folder of one that rlkl-pretrain made (RUN/model), or a name: {', '.join(known)}."
        )
    _refuse_changed_files(folder)
    try:
        vocabulary = _vocabulary(folder / "tokenizer.json")
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
    except (RecursionError, *UNREADABLE) as error:
        raise InputError(f"{folder}: cannot load the model: {error!r:.200}") from error
    try:
        task = _task_in(config)
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    expected = character_tokenizer(task.CHARACTERS)
    if vocabulary != expected.get_vocab() or config.vocab_size != len(expected):
        raise InputError(f"{folder} has another vocabulary than the {len(expected)} tokens of {task.PLURAL}.")
    digits = getattr(config, "trained_digits", None)
    if config.model_type != "gpt2" or not isinstance(digits, int) or digits < 1:
        raise InputError(f"{folder} is not a model that rlkl-pretrain made: trained_digits is missing in its config.json.")
    config.dtype = torch.float32
    try:
        _refuse_other_sizes(folder / WEIGHTS, config)
        model = GPT2LMHeadModel(config)
        load_weights(model, folder / WEIGHTS)
    except (RuntimeError, SafetensorError, *UNREADABLE) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{folder / WEIGHTS}: cannot load the weights: {reason}") from error
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.eval()


def _refuse_changed_files(folder: Path) -> None:
    """Raise InputError if a model's files differ from its manifest."""
    from rlkl_htc_common.errors import InputError as ChangedError
    from rlkl_htc_common.manifest import check_manifest

    try:
        check_manifest(folder, ("config.json", "tokenizer.json", WEIGHTS))
    except ChangedError as error:
        raise InputError(str(error)) from error


def check_reference(name: str, model: GPT2LMHeadModel, reference_name: str, reference: GPT2LMHeadModel) -> None:
    """Raise InputError if the model cannot have been fine-tuned from the reference."""
    if task_of(model) is not task_of(reference):
        differ = f"{name} was made for {task_of(model).PLURAL} and {reference_name} for {task_of(reference).PLURAL}"
    elif model.config.trained_digits != reference.config.trained_digits:
        digits, others = model.config.trained_digits, reference.config.trained_digits
        differ = f"{name} was pre-trained on {digits} digits and {reference_name} on {others}"
    else:
        return
    raise InputError(f"{differ}: choose the reference that the model was fine-tuned from.")


def _vocabulary(file: Path) -> dict[str, Any]:
    """The tokens of a tokenizer file, with their ids."""
    return dict(json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"])


def _refuse_other_sizes(file: Path, config: GPT2Config) -> None:
    """Raise ValueError if the weights have other sizes than the config; checked before memory is allocated."""
    with safe_open(file, framework="pt") as weights:
        shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    layers = len({name.split(".")[2] for name in shapes if name.startswith("transformer.h.")})
    inner = config.n_inner if config.n_inner is not None else 4 * config.n_embd
    found = (shapes.get("transformer.wpe.weight"), layers, shapes.get("transformer.h.0.mlp.c_fc.weight"))
    if found != ((config.n_positions, config.n_embd), config.n_layer, (config.n_embd, inner)):
        raise ValueError("they are of other sizes than config.json says")
