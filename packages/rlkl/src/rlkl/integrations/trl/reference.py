"""What TRL's models say beyond log-probabilities: certainties, logits, and completions of the reference.

Shapes: (B, L) prompts with their completions, padded on both sides; (B, T) the completions; V the size of the vocabulary.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from rlkl.integrations.trl.versions import fused_lm_head

LOGITS_AT_ONCE = 2**26  # elements: 256 MB in float32


def base_model(model: Any) -> PreTrainedModel:
    """The model itself: of a PEFT model, what the adapters are in."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vocabulary_of(model: Any) -> int:
    """V, the number of logits of a place."""
    return int(base_model(model).config.get_text_config().vocab_size)


def give_entropies(model: Any, temperature: float, cast_lm_head_to_fp32: bool, renyi2: bool) -> None:
    """Let the fused head that TRL has from 1.15 on return entropies, too; TRL gives the reference's log-probabilities only."""
    if not fused_lm_head():
        return
    from trl.trainer.utils import add_fused_lm_head

    outputs = ("log_probs", "entropy", *(("log_sum_sq_probs",) if renyi2 else ()))
    add_fused_lm_head(base_model(model), temperature=temperature, cast_lm_head_to_fp32=cast_lm_head_to_fp32, outputs=outputs)


@contextmanager
def outputs_of(model: Any) -> Iterator[list[Any]]:
    """The outputs of a model's passes within."""
    seen: list[Any] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def completion_logits(
    model: Any, input_ids: Tensor, attention_mask: Tensor, completion_length: int, accelerator: Accelerator
) -> Tensor:
    """The logits of completion tokens in float32, as they are before any temperature, by the model's own forward.

    Args: input_ids, attention_mask (B, L); completion_length T. Returns: (B, T, V).
    """
    unwrapped = accelerator.unwrap_model(model)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(base_model(unwrapped).forward).parameters:
        inputs["logits_to_keep"] = completion_length + 1  # the last one predicts what comes after
    with accelerator.autocast():
        logits: Tensor = unwrapped(**inputs).logits
    return logits[:, :-1][:, -completion_length:].float()


def in_parts(rows: int, elements_per_row: int) -> Iterator[slice]:
    """Rows to take at once, so that their logits stay below a limit."""
    step = max(1, LOGITS_AT_ONCE // elements_per_row)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def sampled_completions(
    model: Any, prompts: list[list[int]], generation: GenerationConfig, end_tokens: list[int], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Completions that a model samples, without touching the random numbers of the training.

    Args:
        model: unwrapped.
        prompts: the tokens of B prompts.
        generation: how to sample.
        end_tokens: tokens that end a completion.

    Returns:
        tokens (B, L), attention mask (B, L), and mask of the completion tokens (B, T), the end token included.
    """
    device, longest = model.device, max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), generation.pad_token_id, device=device)
    attention = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt, device=device)
        attention[row, longest - len(prompt) :] = 1
    devices = [device] if device.type == "cuda" else []
    training = model.training
    model.eval()  # no dropout, and no gradient checkpointing, which would switch the cache off
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        sampled = model.generate(input_ids=tokens, attention_mask=attention, generation_config=generation)
    model.train(training)
    completions = sampled[:, longest:]
    ended = torch.isin(completions, torch.tensor(end_tokens, device=device)).int()
    mask = ended.cumsum(1) - ended == 0  # up to the first end token, which counts
    return sampled, torch.cat([attention, mask.to(attention.dtype)], dim=1), mask
