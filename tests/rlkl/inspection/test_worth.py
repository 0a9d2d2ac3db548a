"""Samples, and what tokens are worth."""

import pytest
import torch

from rlkl.inspection import worth as module
from rlkl.inspection.models import CausalModel
from rlkl.inspection.sampling import sample
from rlkl.inspection.scores import Measure, score
from rlkl.inspection.texts import Passage
from rlkl.inspection.worth import Place, alternative_to, least_certain, worth_of
from rlkl.model.texts import TOKENIZER
from rlkl.tasks import addition

from .models import causal_model

PASSAGES = [Passage("a", "", [3, 4, 5], [7, 8, 0]), Passage("b", "", [3], [200, 100])]


def measured(model, passages=PASSAGES):
    return score(model, passages, Measure(alternatives=2))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_samples_come_from_the_model_itself(kind):
    """Their frequencies are the probabilities, whatever top-k or top-p the model's own settings have."""
    model = causal_model(kind, scale=6.0)
    prompts = [[5, 6]] * 3000 + [[9] * 7] * 3000
    found = sample(model, prompts, [1] * 6000, generator=torch.Generator().manual_seed(0), batch_size=6000)
    with torch.no_grad():
        for rows, prompt in ((found[:3000], prompts[0]), (found[3000:], prompts[-1])):
            expected = model.model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
            counted = torch.bincount(torch.tensor(rows)[:, 0], minlength=258) / 3000
            assert float((counted - expected).abs().max()) < 0.04


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_end_at_the_end_token_or_where_they_may_not_grow(temperature):
    model = causal_model(scale=1.0)
    generator = torch.Generator().manual_seed(1)
    rooms, done = [1, 2, 90, 90, 90], []
    found = sample(model, [[1]] * 5, rooms, temperature=temperature, generator=generator, batch_size=2, advance=done.append)
    assert all(0 not in row[:-1] and 1 <= len(row) <= room for row, room in zip(found, rooms, strict=True))
    assert all(row[-1] == 0 or len(row) == room for row, room in zip(found, rooms, strict=True))
    assert sum(done) == 5


def test_the_same_seed_gives_the_same_samples_and_leaves_the_random_numbers_alone():
    model = causal_model()
    before = torch.random.get_rng_state()
    one, two, three = (
        sample(model, [[1, 2], [3]], [9, 9], generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert one == two != three
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rows_of_one_batch_have_the_positions_they_need():
    model = causal_model("gpt2", positions=20)
    rows = sample(model, [[1] * 15, [1] * 2, [1]], [5, 18, 19], temperature=0.0, generator=torch.Generator())
    assert all(row for row in rows)


def test_rlkls_own_models_are_sampled_by_its_engine(model):
    ours = CausalModel("ours", model, TOKENIZER, addition)
    prompt = TOKENIZER("Input:\n1+2\nTarget:")["input_ids"]
    found = sample(ours, [prompt] * 2, [9, 5], generator=torch.Generator().manual_seed(0))
    assert len(found[0]) <= 9
    assert len(found[1]) <= 5


def test_the_least_certain_come_first():
    scores = measured(causal_model())
    places = least_certain(scores, 4)
    values = [float(scores[place.row].certainty[place.position]) for place in places]
    assert values == sorted(float(value) for of_row in scores for value in of_row.certainty)[:4]
    assert len(least_certain(scores, 100)) == 5
    assert least_certain(scores, 0) == []


def test_a_token_is_worth_what_follows_from_it(monkeypatch):
    """A model that goes on with the token it was given last: right only after the first token of the passage."""
    model, passages = causal_model(), PASSAGES
    scores = measured(model)
    monkeypatch.setattr(module, "sample", lambda model, prompts, rooms, **_: [[prompt[-1]] * 2 for prompt in prompts])
    shown = module.text_of(model.tokenizer, [passages[1].completion_tokens[0]] * 3)
    (found,) = worth_of(
        model, passages, scores, [Place(1, 0)], lambda row, text: float(text == shown), continuations=3, new_tokens=[9, 9]
    )
    assert (found.after_token, found.after_alternative, found.worth) == (1, 0, 1)
    assert found.alternative == alternative_to(200, scores[1], 0) != 200


@pytest.mark.parametrize("new_tokens", [3, 9])
def test_nothing_goes_on_after_the_end_and_the_last_token_that_fits(new_tokens):
    model, calls, done = causal_model(), [], []
    scores = measured(model)
    places = [Place(0, 2)]  # the end token, which is graded as it is
    (found,) = worth_of(
        model,
        PASSAGES,
        scores,
        places,
        lambda row, text: calls.append((row, text)) or 0.25,
        continuations=4,
        new_tokens=[new_tokens, 9],
        advance=done.append,
    )
    assert found.after_token == found.after_alternative == 0.25
    assert len(calls) == (2 if new_tokens == 3 else 5)
    assert all(row == 0 for row, _ in calls)
    assert sum(done) == 8
