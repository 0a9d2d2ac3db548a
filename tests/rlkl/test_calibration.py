"""Weights asked for by the share of tokens that they relax."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkl.calibration import beta_for_share, fitted_temperature, rank_weights, ranks, share_below_half, sorted_certainties
from rlkl.certainty import negentropy
from rlkl_htc_common.errors import InputError

DISTINCT = st.lists(st.integers(1, 10_000), min_size=20, max_size=60, unique=True)


def tokens(values):
    certainty = torch.tensor(values, dtype=torch.float32)
    return certainty, torch.ones_like(certainty, dtype=torch.bool)


@given(DISTINCT, st.floats(0.05, 0.95))
def test_the_share_is_met_to_the_token(numbers, share):
    certainty, mask = tokens([number / 10_001 for number in numbers])
    weights = certainty.double() ** beta_for_share(certainty, mask, share)
    assert share_below_half(weights, mask) == pytest.approx(round(share * len(numbers)) / len(numbers))


@given(DISTINCT, st.floats(0.05, 0.95))
def test_ranks_meet_it_too_and_keep_the_order(numbers, share):
    certainty, mask = tokens([number / 10_001 for number in numbers])
    weights = rank_weights(certainty, sorted_certainties(certainty, mask), share)
    assert abs(share_below_half(weights, mask) - share) <= 1 / len(numbers) + 1e-6
    assert torch.equal(weights.argsort(), certainty.argsort())
    assert weights.max() == 1


@pytest.mark.parametrize("vocabulary", [41, 50_257])
def test_the_same_share_at_any_vocabulary(vocabulary):
    logits = torch.randn(400, vocabulary) * torch.linspace(0.1, 30, 400)[:, None]
    certainty, mask = negentropy(logits), torch.ones(400, dtype=torch.bool)
    betas = [beta_for_share(certainty, mask, share) for share in (0.02, 0.1, 0.3)]
    assert [share_below_half(certainty**beta, mask) for beta in betas] == pytest.approx([0.02, 0.1, 0.3])
    assert betas == sorted(betas)  # more tokens are relaxed by a larger beta


def test_masked_tokens_do_not_count():
    certainty, mask = torch.rand(4, 50), torch.rand(4, 50) < 0.5
    alone = certainty[mask]
    assert beta_for_share(certainty, mask, 0.3) == beta_for_share(alone, torch.ones_like(alone, dtype=torch.bool), 0.3)


def test_a_rank_is_the_share_of_measured_tokens_that_were_as_certain_or_less():
    measured = torch.tensor([0.1, 0.2, 0.2, 0.9])
    assert ranks(torch.tensor([[0.0, 0.1, 0.2], [0.5, 0.9, 1.0]]), measured).tolist() == [[0, 0.25, 0.75], [0.75, 1, 1]]


@pytest.mark.parametrize(
    ("values", "share", "message"),
    [
        ([0.5, 0.6], 0.0, "above 0 and below 1"),
        ([0.5, 0.6], 1.0, "above 0 and below 1"),
        ([0.5, 0.6], math.nan, "above 0 and below 1"),
        ([0.5, 0.6, 0.7], 0.1, "not one of them"),
        ([0.5, 0.6, 0.7], 0.9, "all of them"),
        ([0.5, 1.0, 1.0, 1.0], 0.5, r"completely certain \(certainty 1\) of 75.0% .* a smaller share"),
        ([0.0, 0.0, 0.0, 0.9], 0.5, r"not certain at all \(certainty 0\) of 75.0% .* a larger share"),
        ([0.5, math.nan, 0.6], 0.5, "not a number"),
        ([0.5, 1.2, 0.6], 0.5, "from 0 to 1"),
        ([], 0.5, "No token counts"),
    ],
)
def test_what_no_exponent_can_give_is_refused(values, share, message):
    with pytest.raises(InputError, match=message):
        beta_for_share(*tokens(values), share)


def test_equal_certainties_stay_together():
    certainty, mask = tokens([0.3, 0.5, 0.5, 0.5])
    assert share_below_half(certainty ** beta_for_share(certainty, mask, 0.25), mask) == 0.25


@pytest.mark.parametrize("true", [0.25, 1.0, 3.0])
def test_the_fitted_temperature_is_that_which_tokens_were_drawn_at(true):
    logits = 2 * torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.distributions.Categorical(logits=logits / true)
    torch.manual_seed(1)
    drawn = targets.sample()
    found = fitted_temperature(logits, drawn)
    assert found == pytest.approx(true, rel=0.05)
    likelihoods = [
        float((logits.double() / t).log_softmax(-1).gather(-1, drawn[:, None]).mean())
        for t in (found / 1.01, found, 1.01 * found)
    ]
    assert max(likelihoods) == likelihoods[1]


def test_the_fitted_temperature_passes_over_tokens_without_probability():
    logits = torch.tensor([[0.0, 1.0, -math.inf], [2.0, 0.0, -math.inf], [1.0, 0.0, -math.inf]])
    targets = torch.tensor([0, 0, 0])
    assert fitted_temperature(logits, targets) == pytest.approx(fitted_temperature(logits[:, :2], targets))


@pytest.mark.parametrize(
    ("rows", "target", "message"),
    [(2, 0, "always what the model finds likeliest"), (2, 1, "never what the model finds likeliest"), (0, 0, "no tokens")],
)
def test_texts_that_no_temperature_fits(rows, target, message):
    with pytest.raises(InputError, match=message):
        fitted_temperature(torch.tensor([[5.0, 0.0]] * rows).reshape(rows, 2), torch.full((rows,), target))
