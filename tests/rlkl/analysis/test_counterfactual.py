from random import Random

import pytest
import torch

from rlkl.analysis import counterfactual
from rlkl.analysis.counterfactual import Branch, Outcome, Place, alternatives, counterfactuals, mean_by_problem, sample_places
from rlkl.analysis.critical_tokens import critical_tokens, piece_at
from rlkl.certainty import negentropy
from rlkl.model.language_model import load_model
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import END_TOKEN, TOKENIZER, decode, encode, longest_completion, right_sequences
from rlkl.rollout.engine import Rollouts, generate
from rlkl.tasks import addition
from rlkl.tasks.addition import Operands, completion, grade, prompt
from rlkl.tasks.scratchpad import ANSWER_MARK, OPERAND_LISTS

PAIRS = [Operands(123, 45), Operands(9, 99), Operands(321, 990)]


def every_place(pairs):
    return [Place(row, position, "all") for row, pair in enumerate(pairs) for position in range(len(completion(pair)))]


def continued(continuations):
    """Rollouts that say this, and end."""
    rows = [[*tokens, END_TOKEN] for tokens in encode(continuations)]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, END_TOKEN)
    return Rollouts(tokens, torch.zeros(tokens.shape), lengths)


def plays(write):
    """In place of `rlkl.rollout.engine.generate`: what `write` makes of the operands and of what is written already."""

    def generate(model, prompts, *, max_new_tokens, **_):
        continuations = []
        for tokens in prompts:
            text = TOKENIZER.decode(tokens)
            head, _, written = text.partition("Target:")
            pair = Operands(*map(int, head.split("\n")[1].split("+")))
            continuations.append(write(pair, written))
            assert len(continuations[-1]) < max_new_tokens
        return continued(continuations)

    return generate


def test_a_model_that_never_recovers_makes_every_place_matter(model, monkeypatch):
    def write(pair, written):
        right = completion(pair)
        return right[len(written) :] if right.startswith(written) else "0"

    monkeypatch.setattr(counterfactual.rollout, "generate", plays(write))
    done = []
    places = every_place(PAIRS)
    found = counterfactuals(model, PAIRS, places, samples=2, batch_size=50, advance=done.append)
    assert [outcome.place for outcome in found] == places
    assert all((outcome.right, outcome.wrong, outcome.importance) == (1, 0, 1) for outcome in found)
    assert [outcome.character for outcome in found] == [character for pair in PAIRS for character in completion(pair)]
    assert sum(done) == 2 * 2 * len(places)


def test_a_model_that_goes_on_unmoved_makes_only_the_answer_matter(model, monkeypatch):
    """The scratchpad is not graded, so what is wrong there counts for nothing if the rest is as it would have been."""
    monkeypatch.setattr(counterfactual.rollout, "generate", plays(lambda pair, written: completion(pair)[len(written) :]))
    places = every_place(PAIRS)
    places = [place for place, wrong in zip(places, alternatives(model, PAIRS, places)[1], strict=True) if wrong][::7]
    for outcome in counterfactuals(model, PAIRS, places, samples=1):
        pair, position = PAIRS[outcome.place.row], outcome.place.position
        graded = position >= completion(pair).index(ANSWER_MARK)
        assert (outcome.right, outcome.importance) == (1, graded)


def test_a_character_is_where_it_is_said_to_be(model, monkeypatch):
    seen = []
    monkeypatch.setattr(counterfactual.rollout, "generate", plays(lambda pair, written: seen.append((pair, written)) or "0"))
    place = Place(2, 30, "one")
    (outcome,) = counterfactuals(model, PAIRS, [place], samples=3)
    right = completion(PAIRS[2])
    assert seen.count((PAIRS[2], right[:31])) == 3
    assert seen.count((PAIRS[2], right[:30] + outcome.wrong_character)) == 3
    assert outcome.character == right[30] != outcome.wrong_character


@torch.no_grad()
def test_the_wrong_character_is_the_most_likely_of_the_others(model):
    places = [*every_place(PAIRS)[::11], Place(0, 0, "again"), Place(0, 0, "and again")]
    probability, wrong = alternatives(model, PAIRS, places, batch_size=2)
    logits = next_token_logits(model, right_sequences(addition, PAIRS))
    for place, p, character in zip(places, probability, wrong, strict=True):
        distribution = logits[place.row, len(prompt(PAIRS[place.row])) + place.position - 1].softmax(-1)
        right = encode([completion(PAIRS[place.row])[place.position]])[0][0]
        assert p == pytest.approx(distribution[right].item(), rel=1e-4, abs=1e-7)
        chosen = encode([character])[0][0] if character else END_TOKEN
        others = [token for token in range(41) if token not in (right, chosen)]
        assert chosen != right
        assert distribution[chosen] >= distribution[others].max() - 1e-6


def test_where_the_text_would_end_nothing_is_rolled_out(model, monkeypatch):
    monkeypatch.setattr(counterfactual, "alternatives", lambda *_: ([0.5], [""]))
    monkeypatch.setattr(counterfactual.rollout, "generate", plays(lambda pair, written: completion(pair)[len(written) :]))
    done = []
    (outcome,) = counterfactuals(model, PAIRS, [Place(0, 40, "one")], samples=5, advance=done.append)
    assert (outcome.right, outcome.wrong, outcome.wrong_character) == (1, 0, "")
    assert done == [5, 5]


@pytest.fixture(scope="module")
def embedded():
    return load_model("addition-n5")


def test_batches_give_what_each_place_gives_by_itself(embedded):
    """At temperature 0, one text at a time through the engine."""
    pairs = [Operands(52034, 417), Operands(7, 8), Operands(99, 65432)]
    ends = [completion(pair).index(ANSWER_MARK) + len(ANSWER_MARK) for pair in pairs]
    places = [
        Place(0, 13, "list"),
        Place(1, 20, "mark"),
        Place(0, 24, "list"),
        Place(2, 30, "list"),
        Place(2, ends[2], "answer"),
    ]
    places += [Place(1, ends[1] + 1, "answer"), Place(0, 90, "later")]
    found = counterfactuals(embedded, pairs, places, samples=1, temperature=0.0, batch_size=4)
    for outcome in found:
        pair = pairs[outcome.place.row]
        for character, share in ((outcome.character, outcome.right), (outcome.wrong_character, outcome.wrong)):
            begun = completion(pair)[: outcome.place.position] + character
            room = longest_completion(addition, [pair]) - len(begun)
            rest = generate(embedded, encode([prompt(pair) + begun]), max_new_tokens=room, end_token=END_TOKEN, temperature=0.0)
            assert share == grade(pair, begun + decode(rest.samples())[0])
    assert {outcome.importance for outcome in found} == {0.0, 1.0}


def test_the_same_seed_gives_the_same_outcomes(embedded):
    places = [Place(0, position, "a") for position in range(300, 340, 10)]
    pairs = [Operands(123456, 654321)]
    first = counterfactuals(embedded, pairs, places, samples=2, seed=1)
    assert first == counterfactuals(embedded, pairs, places, samples=2, seed=1)


def test_batches_leave_room_and_leave_nobody_out():
    pairs = [Operands(1, 2), Operands(123456, 98765), Operands(55, 66)]
    branches = [
        Branch(i, 1, place.row, completion(pairs[place.row])[: place.position + 1])
        for i, place in enumerate(every_place(pairs))
    ]
    needed = max(len(prompt(pair)) + longest_completion(addition, [pair]) for pair in pairs)
    batches = list(counterfactual._batches(addition, branches, pairs, needed, 64))
    assert sorted(branch for batch in batches for branch in batch) == sorted(branches)
    for batch in batches:
        assert len(batch) <= 64
        room = max(longest_completion(addition, [pairs[branch.row]]) - len(branch.text) for branch in batch)
        assert max(len(prompt(pairs[branch.row]) + branch.text) for branch in batch) + room <= needed


@torch.no_grad()
def test_places_of_each_kind_as_many_as_are_critical(model):
    places = sample_places(model, PAIRS, 2, Random(0), batch_size=2)
    assert places == sample_places(model, PAIRS, 2, Random(0))
    assert places != sample_places(model, PAIRS, 2, Random(1))
    certainty = negentropy(next_token_logits(model, right_sequences(addition, PAIRS)))
    for row, pair in enumerate(PAIRS):
        critical = {token.position for token in critical_tokens(addition, pair, 2)}
        groups = {}
        for place in places:
            if place.row == row:
                groups.setdefault(place.group, []).append(place.position)
        assert set(groups) == ({"critical", "operand lists", "others", "least certain"} if critical else set())
        if critical:
            assert set(groups.pop("critical")) == critical
            assert all(len(set(positions)) == len(critical) for positions in groups.values())
            assert not critical & {position for positions in groups.values() for position in positions}
            assert all(piece_at(addition, pair, position).field in OPERAND_LISTS for position in groups["operand lists"])
            assert all(piece_at(addition, pair, position).field not in OPERAND_LISTS for position in groups["others"])
            start = len(prompt(pair)) - 1
            rest = [p for p in range(len(completion(pair))) if p not in critical | set(groups["least certain"])]
            unsure = max(certainty[row, start + position] for position in groups["least certain"])
            assert unsure <= min(certainty[row, start + position] for position in rest) + 1e-6


def test_additions_count_alike_however_many_places_they_have():
    outcomes = [
        Outcome(Place(0, 1, "critical"), ",", "]", 0.5, 1.0, 0.0),
        Outcome(Place(0, 2, "critical"), "3", "4", 0.7, 0.5, 0.5),
        Outcome(Place(1, 1, "critical"), ",", "]", 1.0, 1.0, 0.5),
        Outcome(Place(1, 9, "others"), " ", "+", 1.0, 0.25, 0.5),
    ]
    found = mean_by_problem(outcomes)
    assert found == {
        "critical": {"right": [0.75, 1.0], "wrong": [0.25, 0.5], "importance": [0.5, 0.5], "probability": [0.6, 1.0]},
        "others": {"right": [0.25], "wrong": [0.5], "importance": [-0.25], "probability": [1.0]},
    }
