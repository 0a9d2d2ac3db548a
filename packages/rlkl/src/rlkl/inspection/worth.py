"""What a token is worth: the success of completions that go on after it, and after the likeliest other token.

    worth = success after the token - success after its alternative

`rlkl.analysis.counterfactual` does this with the right character of arithmetic and the likeliest wrong one. Here no right token
is known: the one that was written is compared with the one that the model would most likely have taken instead.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from rlkl.inspection.models import CausalModel
from rlkl.inspection.pieces import text_of
from rlkl.inspection.sampling import sample
from rlkl.inspection.scores import Scores
from rlkl.inspection.texts import Passage

Verify = Callable[[int, str], float]
"""The success of a completion of a passage, by its number."""


class Place(NamedTuple):
    """A token of a completion. Attributes: row: which completion; position: of the token in it."""

    row: int
    position: int


class Worth(NamedTuple):
    """What came of a place.

    Attributes:
        alternative: the token that was set instead.
        after_token, after_alternative: the mean success of the continuations of each.
    """

    alternative: int
    after_token: float
    after_alternative: float

    @property
    def worth(self) -> float:
        """What the token gains."""
        return self.after_token - self.after_alternative


def least_certain(scores: Sequence[Scores], number: int) -> list[Place]:
    """The places with the lowest certainties of all completions, the lowest first; of equal ones the first."""
    places = [Place(row, position) for row, of_row in enumerate(scores) for position in range(len(of_row.certainty))]
    order = torch.cat([of_row.certainty for of_row in scores]).argsort(stable=True)[:number]
    return [places[place] for place in order.tolist()]


def alternative_to(token: int, scores: Scores, position: int) -> int | None:
    """The likeliest other token of a place; None where the vocabulary has no other."""
    return next((other for other in scores.alternatives[position].tolist() if other != token), None)


def worth_of(
    model: CausalModel,
    passages: Sequence[Passage],
    scores: Sequence[Scores],
    places: Sequence[Place],
    verify: Verify,
    *,
    continuations: int,
    new_tokens: Sequence[int],
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 20,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Worth | None]:
    """Set the token and its likeliest alternative at each place, and let the model go on from there.

    Args:
        passages, scores: completions with their tokens, and what the model says of them, two alternatives at least.
        places: of them.
        continuations: of each of the two.
        new_tokens: the most that a completion of each passage may have.
        temperature: of the continuations; at 0 one of each says all.
        batch_size: continuations at a time.
        advance: called with the number of continuations done, 2 * continuations for each place.

    Returns:
        For each place what came of it; None where there is no other token.
    """
    ends = set(model.end_tokens)
    branches, begun, rooms = [], [], []
    sums = [[0.0, 0.0] for _ in places]
    others = [
        alternative_to(passages[place.row].completion_tokens[place.position], scores[place.row], place.position)
        for place in places
    ]
    for number, (place, other) in enumerate(zip(places, others, strict=True)):
        tokens = passages[place.row].completion_tokens
        for side, token in enumerate((tokens[place.position], other)):
            if other is None or token is None:
                advance(continuations)
                continue
            written = [*tokens[: place.position], token]
            room = new_tokens[place.row] - len(written)
            if token in ends or room < 1:  # nothing goes on
                sums[number][side] = continuations * verify(place.row, text_of(model.tokenizer, written))
                advance(continuations)
                continue
            branches += [(number, side, place.row)] * continuations
            begun += [written] * continuations
            rooms += [room] * continuations
    prompts = [passages[row].prompt_tokens + written for (_, _, row), written in zip(branches, begun, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    grown = sample(model, prompts, rooms, temperature=temperature, generator=generator, batch_size=batch_size, advance=advance)
    for (number, side, row), written, more in zip(branches, begun, grown, strict=True):
        sums[number][side] += verify(row, text_of(model.tokenizer, [*written, *more]))
    means = [[total / continuations for total in pair] for pair in sums]
    return [None if other is None else Worth(other, *pair) for other, pair in zip(others, means, strict=True)]
