"""Calibration: the exponent for a share of relaxed tokens, from completions of the reference before training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import GenerationConfig
from trl.trainer.utils import use_adapter

from rlkl.calibration import beta_for_share, rank_weights, share_below_half, sorted_certainties
from rlkl.integrations.trl.reference import sampled_completions
from rlkl_htc_common.errors import InputError

PROMPTS_AT_ONCE = 16  # fixed, so that samples do not depend on the number of processes


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        exponent: the power of the certainty for the share (the paper's beta); None for ranks, which need none.
        share: the share of measured tokens with a weight below one half.
        tokens: the number of measured tokens.
        certainties: their certainties in ascending order, for ranks; empty otherwise.
    """

    exponent: float | None
    share: float
    tokens: int
    certainties: list[float]


def calibrated(certainties: list[float], share: float, by_rank: bool) -> Calibration:
    """The calibration from measured certainties.

    Raises:
        InputError: if no exponent gives the share.
    """
    tokens = torch.tensor(certainties)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    ordered = sorted_certainties(tokens, everywhere)
    if by_rank:
        weights = rank_weights(ordered, ordered, share)
        return Calibration(None, share_below_half(weights, everywhere), len(ordered), ordered.tolist())
    exponent = beta_for_share(ordered, everywhere, share)
    return Calibration(exponent, share_below_half(ordered.pow(exponent), everywhere), len(ordered), [])


def spread(dataset: Any, number: int) -> list[Any]:
    """`number` prompts, evenly spread over the dataset; of a stream, the first ones. A short dataset is repeated.

    Raises:
        InputError: if there is none.
    """
    try:
        rows = [dataset[k * len(dataset) // number] for k in range(number)] if len(dataset) else []
    except TypeError:  # a stream has no length
        rows = list(islice(iter(dataset), number))
    if not rows:
        raise InputError("train_dataset has no rows, so that there is no prompt to measure the reference on.")
    return [rows[k % len(rows)]["prompt"] for k in range(number)]


@contextmanager
def reference_of(trainer: Any) -> Iterator[tuple[Any, Any]]:
    """The reference as TRL passes it to its methods, and unwrapped."""
    if trainer.ref_model is not None:
        yield trainer.ref_model, trainer.accelerator.unwrap_model(trainer.ref_model)
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
        with use_adapter(model, "ref" if "ref" in model.peft_config else None):
            yield trainer.model, model


def generation_of(trainer: Any) -> GenerationConfig:
    """The trainer's sampling settings, for transformers."""
    if not trainer.use_vllm:
        return trainer.generation_config
    args = trainer.args
    return GenerationConfig(
        max_new_tokens=args.max_completion_length,
        do_sample=True,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
        pad_token_id=trainer.processing_class.pad_token_id,
        eos_token_id=end_tokens_of(trainer),
    )


def end_tokens_of(trainer: Any) -> list[int]:
    """The tokens that end a completion."""
    own = getattr(trainer, "eos_token_ids", None)
    return list(own) if own else [trainer.processing_class.eos_token_id]


def measured_certainties(trainer: Any) -> list[float]:
    """Sample completions of the reference and measure its certainty at their tokens, over all processes.

    The training's random state does not change: the run equals one with the exponent given.
    """
    args, accelerator = trainer.args, trainer.accelerator
    prompts = spread(trainer.train_dataset, args.calibration_completions)
    found: list[float] = []
    for part, start in enumerate(range(0, len(prompts), PROMPTS_AT_ONCE)):
        if part % accelerator.num_processes != accelerator.process_index:
            continue
        tokens = trainer._tokenize_prompts(prompts[start : start + PROMPTS_AT_ONCE])[0]
        with reference_of(trainer) as (wrapped, model):
            sequences, attention, mask = sampled_completions(
                model, tokens, generation_of(trainer), end_tokens_of(trainer), seed=args.seed + part
            )
            certainty = trainer.certainty_of(wrapped, sequences, attention, mask.shape[1])
        found += certainty[mask].float().tolist()
    return list(gather_object(found))


def asked(args: Any) -> dict[str, Any]:
    """The settings that a calibration depends on; it can be reused for a run with equal ones."""
    rank = args.kl_weighting == "rank"
    return {"share": args.share, "rank": rank, "certainty": args.certainty, "temperature": args.certainty_temperature}


def calibrate(trainer: Any) -> Calibration:
    """Calibrate the weights of a PrioritizedKLTrainer.

    Raises:
        InputError: if no exponent gives the share.
    """
    return calibrated(measured_certainties(trainer), trainer.args.share, trainer.args.kl_weighting == "rank")
