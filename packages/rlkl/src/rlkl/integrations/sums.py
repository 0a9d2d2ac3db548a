"""What fine-tuning on one-digit sums does to a language model: what it learns, and what it keeps.

Learned: accuracy on held-out sums (`smollm2.held_out_sums`), greedy and sampled. Kept: the KL on other text, measured on what
the reference itself says after a dozen general prompts: KL(reference || policy), exact, per token. The same texts for all
runs: a model that has forgotten something says it with a lower probability. KL(policy || reference) on the sums, per token of
the policy's own answers, says how far it moved there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from rlkl.inspection.models import CausalModel, load_causal
from rlkl.inspection.sampling import sample
from rlkl.inspection.scores import Measure, score
from rlkl.inspection.texts import Passage
from rlkl.integrations.smollm2 import LINE_END, held_out_sums, line_tokenizer, right_sum
from rlkl_htc_common.errors import InputError

GENERAL_PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "Water boils at a lower temperature on a mountain because",
    "def fibonacci(n):\n",
    "Dear Sir or Madam,\n",
    "Three ways to save energy at home are",
    "Question: Why is the sky blue?\nAnswer:",
    "In 1969, two people",
    "The recipe needs flour, eggs and",
    "A good friend is someone who",
    "The French word for bread is",
    "The main difference between a virus and a bacterium is",
)
SEED = 1  # of evaluations: all runs are measured on the same prompts, with the same random numbers


def load_for_sums(model: str) -> CausalModel:
    """A model for sums. Args: model: a folder or a name of the hub, see `load_causal`.

    Raises:
        InputError: there is none, or its tokenizer has no token for the end of a line.
    """
    loaded = load_causal(model)
    if LINE_END not in loaded.tokenizer.get_vocab():
        raise InputError(f"{model} has no token for the end of a line ({LINE_END!r}), and here one ends an answer.")
    return for_sums(loaded.model, model)


def for_sums(model: Any, name: str) -> CausalModel:
    """A model whose completions end with the line. Args: name: of the folder or the hub that has its tokenizer."""
    return CausalModel(name, model, line_tokenizer(name))


def general_passages(reference: CausalModel, most: int) -> list[Passage]:
    """What the reference says after `GENERAL_PROMPTS`, at temperature 1. Args: most: tokens after each."""
    tokens = [[int(token) for token in reference.tokenizer(prompt)["input_ids"]] for prompt in GENERAL_PROMPTS]
    generator = torch.Generator().manual_seed(SEED)
    said = sample(reference, tokens, [most] * len(tokens), generator=generator)
    return [
        Passage(f"general prompt {number}", prompt, before, after)
        for number, (prompt, before, after) in enumerate(zip(GENERAL_PROMPTS, tokens, said, strict=True), start=1)
    ]


def answers(
    model: CausalModel, rows: Sequence[dict[str, str]], most: int, temperature: float
) -> tuple[list[float], list[Passage]]:
    """Whether a model solves sums, and its answers. Args: rows: `prompt` and `answer`; most: tokens of an answer."""
    prompts = [[int(token) for token in model.tokenizer(row["prompt"])["input_ids"]] for row in rows]
    generator = torch.Generator().manual_seed(SEED)
    said = sample(model, prompts, [most] * len(rows), temperature=temperature, generator=generator)
    texts = [str(model.tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in said]
    passages = [Passage("", row["prompt"], *tokens) for row, *tokens in zip(rows, prompts, said, strict=True)]
    return right_sum(texts, [row["answer"] for row in rows]), passages


def mean_kl(model: CausalModel, reference: CausalModel, passages: Sequence[Passage]) -> float:
    """KL(model || reference) in nats, exact, the mean over the tokens of completions."""
    found = score(model, passages, Measure(), reference=reference)
    return float(torch.cat([each.kl for each in found]).mean())


def evaluate(
    policy: CausalModel, reference: CausalModel, general: Sequence[Passage], copies: int, most: int
) -> dict[str, float]:
    """What is measured of a policy.

    Args:
        general: from `general_passages`, of the reference.
        copies: prompts with each held-out sum.
        most: tokens of an answer.
    """
    rows = held_out_sums(copies, SEED)
    with _evaluating(policy.model):
        greedy, _ = answers(policy, rows, most, 0.0)
        sampled, said = answers(policy, rows, most, 1.0)
        return {
            "eval/greedy": sum(greedy) / len(rows),
            "eval/sampled": sum(sampled) / len(rows),
            "eval/kl_other_text": mean_kl(reference, policy, general),
            "eval/kl_sums": mean_kl(policy, reference, said),
        }


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
