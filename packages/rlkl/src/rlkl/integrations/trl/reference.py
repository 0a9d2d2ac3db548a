"""Outputs of TRL's models besides log-probabilities: certainties, logits, and completions of the reference.

Shapes: (B, L) prompts with completions, padded on both sides; (B, T) completions; V the size of the vocabulary.
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
    """The model without PEFT's wrapper (the adapters stay in it)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vocabulary_of(model: Any) -> int:
    """V, the size of the vocabulary."""
    return int(base_model(model).config.get_text_config().vocab_size)


def give_entropies(model: Any, temperature: float, cast_lm_head_to_fp32: bool, renyi2: bool) -> None:
    """Make the fused head of TRL 1.15 and later return entropies too; TRL asks the reference for log-probabilities only."""
    if not fused_lm_head():
        return
    from trl.trainer.utils import add_fused_lm_head

    outputs = ("log_probs", "entropy", *(("log_sum_sq_probs",) if renyi2 else ()))
    add_fused_lm_head(base_model(model), temperature=temperature, cast_lm_head_to_fp32=cast_lm_head_to_fp32, outputs=outputs)


@contextmanager
def outputs_of(model: Any) -> Iterator[list[Any]]:
    """Record the outputs of a model's passes inside the block."""
    seen: list[Any] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def completion_logits(
    model: Any, input_ids: Tensor, attention_mask: Tensor, completion_length: int, accelerator: Accelerator
) -> Tensor:
    """The float32 logits of completion tokens, before any temperature, by the model's forward.

    Args: input_ids, attention_mask (B, L); completion_length T. Returns: (B, T, V).
    """
    unwrapped = accelerator.unwrap_model(model)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(base_model(unwrapped).forward).parameters:
        inputs["logits_to_keep"] = completion_length + 1  # the last one predicts the token after the completion
    with accelerator.autocast():
        logits: Tensor = unwrapped(**inputs).logits
    return logits[:, :-1][:, -completion_length:].float()


def in_parts(rows: int, elements_per_row: int) -> Iterator[slice]:
    """Slices of rows whose logits stay below the limit LOGITS_AT_ONCE."""
    step = max(1, LOGITS_AT_ONCE // elements_per_row)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def sampled_completions(
    model: Any, prompts: list[list[int]], generation: GenerationConfig, end_tokens: list[int], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample completions from a model, without changing the training's random state.

    Args:
        model: unwrapped.
        prompts: the tokens of B prompts.
        generation: the sampling settings.
        end_tokens: tokens that end a completion.

    Returns:
        tokens (B, L), attention mask (B, L), and mask of the completion tokens (B, T), end token included.
    """
    device, longest = model.device, max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), generation.pad_token_id, device=device)
    attention = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt, device=device)
        attention[row, longest - len(prompt) :] = 1
    devices = [device] if device.type == "cuda" else []
    training = model.training
    model.eval()  # no dropout, and no gradient checkpointing, which would disable the cache
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        sampled = model.generate(input_ids=tokens, attention_mask=attention, generation_config=generation)
    model.train(training)
    completions = sampled[:, longest:]
    ended = torch.isin(completions, torch.tensor(end_tokens, device=device)).int()
    mask = ended.cumsum(1) - ended == 0  # up to and including the first end token
    return sampled, torch.cat([attention, mask.to(attention.dtype)], dim=1), mask
