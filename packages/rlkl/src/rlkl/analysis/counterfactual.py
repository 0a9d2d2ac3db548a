"""The importance of single characters: rollouts with the right and with a wrong character forced at one place.

The text before the place is right. At the place, the right character is set, or the model's most likely other character. The
model then continues by itself from both. The importance of the place is the difference in success:

    importance = success after the right character - success after the wrong one

This tests the claim about critical tokens ("wrong there means wrong at the end") without using their definition. It does not
say how likely an error is at the place; `Outcome.probability` does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlkl import rollout
from rlkl.analysis.critical_tokens import critical_tokens
from rlkl.certainty import negentropy
from rlkl.model.language_model import task_of
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import END_TOKEN, TOKENIZER, decode, encode, longest_completion, right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl.tasks.scratchpad import OPERAND_LISTS

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


class Place(NamedTuple):
    """A character of a right completion.

    Attributes:
        row: the index of the problem.
        position: its index in the completion.
        group: why it was chosen.
    """

    row: int
    position: int
    group: str


class Outcome(NamedTuple):
    """The outcome at one place.

    Attributes:
        place: the place.
        character, wrong_character: the forced characters; the wrong one is empty if it is the end of the text.
        probability: the model's probability of the right character.
        right, wrong: the share of right answers after the right and after the wrong character.
    """

    place: Place
    character: str
    wrong_character: str
    probability: float
    right: float
    wrong: float

    @property
    def importance(self) -> float:
        """The gain in right answers from the right character."""
        return self.right - self.wrong


class Branch(NamedTuple):
    """The start of a continuation: for place `number`, a text that ends in the wrong (0) or right (1) character."""

    number: int
    right: int
    row: int
    text: str


@torch.no_grad()
def sample_places(
    model: "GPT2LMHeadModel", operands: Sequence[Operands], trained_digits: int, rng: Random, batch_size: int = 50
) -> list[Place]:
    """The critical tokens of each problem, and for comparison as many characters of three other groups.

    Returns:
        Places of the groups `critical`; `operand lists`, random other characters of operand lists; `others`, random characters
        outside operand lists; `least certain`, the characters with the lowest negentropy among those that are not critical
        (this group may overlap with the other two).
    """
    task = task_of(model)
    found = []
    sequences = right_sequences(task, operands)
    for rows in torch.arange(len(operands)).split(batch_size):
        batch = sequences[rows]
        certainties = negentropy(next_token_logits(model, batch.to(model.device)).double()).cpu()  # (b, T)
        for row, values, mask in zip(rows.tolist(), certainties, batch.mask, strict=True):
            chosen = _choose(task, operands[row], values[mask], trained_digits, rng)
            found += [Place(row, position, group) for group, positions in chosen.items() for position in sorted(positions)]
    return found


def _choose(task: Task, operands: Operands, certainty: Tensor, trained_digits: int, rng: Random) -> dict[str, list[int]]:
    """Choose positions by group. Args: certainty: (characters + 1,) of the completion, end token included."""
    fields = [piece.field for piece in task.pieces(operands) for _ in piece.text]
    critical = [token.position for token in critical_tokens(task, operands, trained_digits)]
    rest = [position for position in range(len(fields)) if position not in set(critical)]
    lists = [position for position in rest if fields[position] in OPERAND_LISTS]
    others = [position for position in rest if fields[position] not in OPERAND_LISTS]
    return {
        "critical": critical,
        "operand lists": rng.sample(lists, min(len(critical), len(lists))),
        "others": rng.sample(others, min(len(critical), len(others))),
        "least certain": sorted(rest, key=lambda position: float(certainty[position]))[: len(critical)],
    }


def counterfactuals(
    model: "GPT2LMHeadModel",
    operands: Sequence[Operands],
    places: Sequence[Place],
    *,
    samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 50,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Outcome]:
    """Force the right and the most likely wrong character at each place, and let the model continue.

    Args:
        operands: problems that fit into the model's positions (`rlkl.model.completion.check_positions`).
        places: places in these problems.
        samples: continuations of each of the two characters.
        temperature: of the continuations; 0 for greedy decoding, for which one sample is enough.
        seed: of the sampling.
        batch_size: continuations at a time; on a CPU, small enough for its cache to hold their keys and values.
        advance: called with the number of finished continuations; the total is 2 * samples for each place.

    Returns:
        An outcome for each place, in the same order.
    """
    task = task_of(model)
    generator = torch.Generator().manual_seed(seed)
    probabilities, wrong_characters = alternatives(model, operands, places)
    characters = [task.completion(operands[place.row])[place.position] for place in places]
    branches = []
    for number, (place, *choices) in enumerate(zip(places, wrong_characters, characters, strict=True)):
        prefix = task.completion(operands[place.row])[: place.position]
        for right, character in enumerate(choices):
            if character:
                branches += [Branch(number, right, place.row, prefix + character)] * samples
            else:
                advance(samples)  # the text ends here, without an answer
    successes = np.zeros((len(places), 2))
    for batch in _batches(task, branches, operands, model.config.n_positions, batch_size):
        for branch, text in zip(batch, _continue(model, operands, batch, temperature, generator), strict=True):
            successes[branch.number, branch.right] += task.grade(operands[branch.row], text)
        advance(len(batch))
    wrong, right = (successes / samples).T.tolist()
    return list(map(Outcome, places, characters, wrong_characters, probabilities, right, wrong))


@torch.no_grad()
def alternatives(
    model: "GPT2LMHeadModel", operands: Sequence[Operands], places: Sequence[Place], batch_size: int = 50
) -> tuple[list[float], list[str]]:
    """For each place, the probability of the right character, and the most likely other one (empty: end of text)."""
    sequences = right_sequences(task_of(model), operands)
    found = torch.empty(len(places), model.config.vocab_size)
    columns = [int(sequences.prompt_lengths[place.row]) + place.position - 1 for place in places]
    targets = torch.tensor([int(sequences.targets[place.row, at]) for place, at in zip(places, columns, strict=True)])  # (P,)
    for rows in torch.arange(len(operands)).split(batch_size):
        probabilities = next_token_logits(model, sequences[rows].to(model.device)).softmax(-1).cpu()  # (b, T, V)
        for number, place in enumerate(places):
            if rows[0] <= place.row <= rows[-1]:
                found[number] = probabilities[place.row - int(rows[0]), columns[number]]
    others = found.scatter(1, targets[:, None], -1.0).argmax(1)  # (P,)
    wrong = [str(TOKENIZER.decode([token], skip_special_tokens=True)) for token in others.tolist()]
    return found.gather(1, targets[:, None]).squeeze(1).tolist(), wrong


def _batches(
    task: Task, branches: Sequence[Branch], operands: Sequence[Operands], positions: int, batch_size: int
) -> Iterator[list[Branch]]:
    """Batches of branches of similar length, small enough for the model's positions."""
    batch: list[Branch] = []
    for branch in sorted(branches, key=lambda branch: _read(task, operands, branch)):
        longest = _read(task, operands, branch) + max(_room(task, operands, other) for other in [*batch, branch])
        if batch and (len(batch) == batch_size or longest > positions):
            yield batch
            batch = []
        batch.append(branch)
    if batch:
        yield batch


def _continue(
    model: "GPT2LMHeadModel",
    operands: Sequence[Operands],
    batch: Sequence[Branch],
    temperature: float,
    generator: torch.Generator,
) -> list[str]:
    """The completions of branches."""
    task = task_of(model)
    rollouts = rollout.generate(
        model,
        encode(task.prompt(operands[branch.row]) + branch.text for branch in batch),
        max_new_tokens=max(_room(task, operands, branch) for branch in batch),
        end_token=END_TOKEN,
        temperature=temperature,
        generator=generator,
    )
    return [branch.text + text for branch, text in zip(batch, decode(rollouts.samples()), strict=True)]


def _read(task: Task, operands: Sequence[Operands], branch: Branch) -> int:
    """The number of tokens of a branch's prompt and text."""
    return len(task.prompt(operands[branch.row])) + len(branch.text)


def _room(task: Task, operands: Sequence[Operands], branch: Branch) -> int:
    """The largest number of new tokens of a branch: the rest of the right completion, the end token, and some slack."""
    return longest_completion(task, [operands[branch.row]]) - len(branch.text)


def mean_by_problem(outcomes: Iterable[Outcome]) -> dict[str, dict[str, list[float]]]:
    """By group, the mean of `right`, `wrong`, `importance` and `probability` over each problem's places.

    Places of one problem share their digits, so a bootstrap must resample problems, not places.
    """
    rows: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.place.group, outcome.place.row), []).append(outcome)
    found: dict[str, dict[str, list[float]]] = {}
    for (group, _), of_row in rows.items():
        means = found.setdefault(group, {"right": [], "wrong": [], "importance": [], "probability": []})
        for name, values in means.items():
            values.append(float(np.mean([getattr(outcome, name) for outcome in of_row])))
    return found
