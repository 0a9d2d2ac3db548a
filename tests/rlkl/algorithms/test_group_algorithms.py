"""DAPO, GSPO, CISPO and ZCPO by their definitions, as loops over tokens, and by their gradients."""

import math

import pytest
import torch

from rlkl import weighting
from rlkl.algorithms import cispo, gspo, ppo, zcpo
from rlkl.algorithms.groups import constant_groups
from rlkl_htc_common.errors import InputError

from .. import recipes

MASKS = {
    "all": torch.ones(4, 5, dtype=torch.bool),
    "ragged": torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None],
    "after prompts": torch.arange(5) >= torch.tensor([0, 2, 4, 1])[:, None],
}


@pytest.fixture(params=MASKS)
def batch(request):
    """log-probabilities with a gradient, those when sampled, advantages of episodes, mask: (B, T) each."""
    torch.manual_seed(0)
    old = -torch.rand(4, 5).double()
    log_probs = (old + torch.randn(4, 5) / 2).requires_grad_()
    return log_probs, old, torch.tensor([1.0, -1.0, 0.5, -2.0]).double()[:, None].expand(4, 5), MASKS[request.param]


def of_tokens(mask):
    return [(row, place) for row, place in mask.nonzero().tolist()]


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.28), (0.2, 0.2), (0.5, 0.1)])
def test_the_upper_clip_range_is_separate(batch, low, high):
    log_probs, old, advantages, mask = batch
    terms, stopped = [], torch.zeros_like(mask)
    for at in of_tokens(mask):
        ratio, advantage = math.exp(log_probs[at].item() - old[at].item()), float(advantages[at])
        terms.append(min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage))
        stopped[at] = ratio > 1 + high if advantage > 0 else ratio < 1 - low
    loss = ppo.policy_loss(log_probs, old, advantages, mask, low, None, high)
    assert loss.item() == pytest.approx(-sum(terms) / len(terms))
    gradient = torch.autograd.grad(loss, log_probs)[0]
    assert torch.equal(gradient != 0, mask & ~stopped)
    assert torch.equal(ppo.clipped(log_probs - old, advantages, low, high) & mask, stopped)
    ratio = (log_probs - old).exp()
    assert torch.equal(ppo.outside(log_probs - old, low, high), (ratio > 1 + high) | (ratio < 1 - low))


def test_without_an_upper_clip_range_nothing_changes(batch):
    log_probs, old, advantages, mask = batch
    assert torch.equal(
        ppo.policy_loss(log_probs, old, advantages, mask, 0.2),
        ppo.policy_loss(log_probs, old, advantages, mask, 0.2, None, 0.2),
    )
    assert torch.equal(ppo.outside(log_probs - old, 0.2), ppo.beyond_clip_range(log_probs, old, 0.2))


@pytest.mark.parametrize(("low", "high"), [(3e-4, 4e-4), (0.1, 0.2), (0.9, 9.0)])
def test_gspo_has_one_ratio_for_an_episode(batch, low, high):
    log_probs, old, advantages, mask = batch
    total, expected = 0.0, torch.zeros_like(log_probs)
    for row in range(4):
        places = mask[row].nonzero().squeeze(1).tolist()
        ratio = math.exp(sum(float(log_probs[row, place] - old[row, place]) for place in places) / len(places))
        advantage = float(advantages[row, 0])
        total += min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
        if not (ratio > 1 + high if advantage > 0 else ratio < 1 - low):
            for place in places:  # the derivative of the ratio by a token's log-probability is ratio / length
                expected[row, place] = -ratio * advantage / len(places) / 4
    loss = gspo.policy_loss(log_probs, old, advantages, mask, low, None, high)
    assert loss.item() == pytest.approx(-total / 4)
    torch.testing.assert_close(torch.autograd.grad(loss, log_probs)[0], expected)


def test_gspo_adds_up_over_parts(batch):
    log_probs, old, advantages, mask = batch
    given = (log_probs, old, advantages, mask)
    parts = [gspo.policy_loss(*(x[rows] for x in given), 0.9, torch.tensor(4), 9.0) for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), gspo.policy_loss(*given, 0.9, None, 9.0))


def test_gspo_takes_advantages_of_tokens():
    """GSPO-token: the episode's ratio times the mean of the tokens' advantages, and each token has its own gradient."""
    log_probs, old = torch.tensor([[-1.0, -2.0]], requires_grad=True), torch.tensor([[-1.2, -1.9]])
    advantages, mask = torch.tensor([[3.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool)
    ratio = math.exp(0.05)
    loss = gspo.policy_loss(log_probs, old, advantages, mask, 0.9, None, 9.0)
    assert loss.item() == pytest.approx(-ratio * 1.0)
    torch.testing.assert_close(torch.autograd.grad(loss, log_probs)[0], -ratio * advantages / 2)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.1), (0.2, 0.28), (1.0, 4.0)])
def test_cispo_weighs_and_never_stops(batch, low, high):
    log_probs, old, advantages, mask = batch
    terms, expected = [], torch.zeros_like(log_probs)
    for at in of_tokens(mask):
        weight = min(max(math.exp(log_probs[at].item() - old[at].item()), 1 - low), 1 + high)
        terms.append(weight * float(advantages[at]) * float(log_probs[at]))
        expected[at] = -weight * advantages[at] / int(mask.sum())
    loss = cispo.policy_loss(log_probs, old, advantages, mask, low, None, high)
    assert loss.item() == pytest.approx(-sum(terms) / len(terms))
    torch.testing.assert_close(torch.autograd.grad(loss, log_probs)[0], expected)


@pytest.mark.parametrize("loss", [ppo.policy_loss, gspo.policy_loss, cispo.policy_loss])
def test_on_policy_all_pull_alike(loss):
    torch.manual_seed(1)
    log_probs, advantages = (-torch.rand(3, 4)).requires_grad_(), torch.randn(3, 1).expand(3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    found = torch.autograd.grad(loss(log_probs, log_probs.detach(), advantages, mask, 0.5, None, 0.5), log_probs)[0]
    torch.testing.assert_close(found, -advantages / 12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("loss", [ppo.policy_loss, gspo.policy_loss, cispo.policy_loss])
def test_masked_tokens_may_be_anything(loss, bad):
    old, mask = torch.zeros(2, 3), torch.tensor([[True, True, False], [True, False, False]])
    log_probs = torch.full((2, 3), 0.1).masked_fill(~mask, bad).requires_grad_()
    advantages = torch.ones(2, 3).masked_fill(~mask, bad)
    found = loss(log_probs, old.masked_fill(~mask, bad), advantages, mask, 0.5, None, 0.5)
    gradient = torch.autograd.grad(found, log_probs)[0]
    assert found.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


@pytest.mark.parametrize("bad", [-math.inf, -1e30, 1e30])
def test_far_ratios_give_numbers(bad):
    log_probs, mask = torch.tensor([[0.0, bad]], requires_grad=True), torch.ones(1, 2, dtype=torch.bool)
    for loss in (gspo.policy_loss, cispo.policy_loss):
        found = loss(log_probs, torch.zeros(1, 2), torch.ones(1, 2), mask, 0.5, None, 0.5)
        assert not found.isnan()
        assert torch.autograd.grad(found, log_probs)[0].isfinite().all()


RETURNS = [
    [1.0, -1.0, -1.0, 1.0, 1.0, 1.0],
    [0.1, 0.1, 0.1, 1e9, 1e9, 1e9],
    [3.0, 0.0, 0.0, -1.0, 0.5, 0.25],
    [1e-7, 0.0, 0.0, 1e6, -1e6, 0.0],
]


@pytest.mark.parametrize("returns", RETURNS)
def test_zcpo_divides_by_the_largest_distance(returns):
    expected = []
    for start in (0, 3):
        group = returns[start : start + 3]
        above = [value - sum(group) / 3 for value in group]
        largest = 0.0 if len(set(group)) == 1 else max(map(abs, above))
        expected += [value / largest if largest else 0.0 for value in above]
    found = zcpo.advantages(torch.tensor(returns).double(), 3)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert found.abs().max() <= 1


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_drift_of_a_group_sums_to_0(mask):
    torch.manual_seed(0)
    divergences = torch.rand(4, 5).double().masked_fill(~mask, math.nan)
    means = [float(divergences[row][mask[row]].mean()) for row in range(4)]
    expected = [means[row] - sum(means[row // 2 * 2 : row // 2 * 2 + 2]) / 2 for row in range(4)]
    found = zcpo.relative_drift(divergences, mask, 2)
    assert found.tolist() == pytest.approx(expected)
    assert found.view(2, 2).sum(1).tolist() == pytest.approx([0, 0], abs=1e-12)
    torch.testing.assert_close(zcpo.relative_drift(divergences + 7, mask, 2), found)


def test_zcpo_has_the_best_coefficients_of_sum_0():
    """The paper's equation 2: any other coefficients of sum 0 are worse."""
    torch.manual_seed(0)
    alpha, mask = 0.7, torch.ones(3, 1, dtype=torch.bool)
    rewards, drift = zcpo.advantages(torch.tensor([1.0, 0.0, 0.2]).double(), 3), torch.rand(3).double()
    best = rewards - alpha * zcpo.relative_drift(drift[:, None], mask, 3)

    def cost(coefficients):
        return float(0.5 * (coefficients - rewards).square().sum() + alpha * (coefficients * drift).sum())

    for _ in range(20):
        other = torch.randn(3).double()
        assert cost(best + other - other.mean()) > cost(best)


def test_groups_of_one_are_refused():
    for function in (
        lambda: zcpo.advantages(torch.ones(3), 1),
        lambda: zcpo.relative_drift(torch.ones(3, 2), torch.ones(3, 2) > 0, 2),
    ):
        with pytest.raises(InputError, match="group"):
            function()


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([0.1, 0.1, 0.1, 0.2], [1, 1, 0, 0]),
        ([1e9, 1e9, 0.0, 1e-7], [1, 1, 0, 0]),
        ([math.nan, 1.0, math.nan, math.nan], [1] * 4),
        ([math.nan, math.nan, 1.0, 2.0], [1, 1, 0, 0]),
    ],
)
def test_groups_are_constant_where_what_was_scored_is_equal(returns, expected):
    assert constant_groups(torch.tensor(returns), 2).int().tolist() == expected


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("window", [1, 2, 4, 5, 9])
def test_windows_are_means_of_the_tokens_that_follow(mask, window):
    torch.manual_seed(0)
    values = torch.rand(4, 5).masked_fill(~mask, math.nan)
    found = weighting.window_means(values, mask, window)
    for row, place in of_tokens(mask):
        following = [float(values[row, at]) for at in range(place, min(place + window, 5)) if mask[row, at]]
        assert found[row, place].item() == pytest.approx(sum(following) / len(following), rel=1e-5)
    assert found.isfinite().all()


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_future_is_summed_from_the_token_itself(mask):
    torch.manual_seed(0)
    values = torch.randn(4, 5).double().masked_fill(~mask, math.nan)
    found = weighting.to_the_end(values, mask)
    for row, place in of_tokens(mask):
        assert found[row, place].item() == pytest.approx(sum(float(values[row, at]) for at in range(place, 5) if mask[row, at]))


REFUSED = [
    ({"name": "ppo", "clip_range_high": 0.0}, "algorithm.clip_range_high must be positive or null, not 0"),
    ({"name": "grpo", "clip_range_high": math.nan}, "algorithm.clip_range_high must be positive or null"),
    ({"name": "a2c", "clip_range_high": 0.3}, "a2c clips nothing"),
    ({"name": "gspo", "clip_range_uncertain": 0.5}, "gspo has one ratio for a whole episode"),
    ({"name": "cispo", "clip_range_uncertain": 0.5}, "cispo bounds the weights of tokens"),
    ({"name": "gspo", "policy_share": 0.5}, "gspo's ratio is of all tokens"),
    ({"name": "grpo", "constant_groups": "dropped"}, "must be one of kept, left_out, resampled, not 'dropped'"),
    ({"name": "a2c", "constant_groups": "left_out"}, "a2c learns from each with its critic"),
    ({"name": "ppo", "constant_groups": "resampled", "resamples": 2}, "ppo learns from each with its critic"),
    ({"name": "grpo", "constant_groups": "resampled"}, "at least 1, not null"),
    ({"name": "rloo", "constant_groups": "resampled", "resamples": 0}, "at least 1, not 0"),
    *(({"name": name, "group_size": 1}, "needs groups of at least 2") for name in ("gspo", "cispo", "zcpo")),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[f"{change}" for change, _ in REFUSED])
def test_what_has_no_meaning_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        recipes.algorithm(**change).check()


TOGETHER = [
    ("a2c", {"off_clipped": True}, "a2c clips nothing"),
    ("rloo", {"off_clipped": True}, "rloo clips nothing"),
    ("cispo", {"off_clipped": True}, "cispo keeps the gradient of clipped tokens"),
    ("a2c", {"off_constant_groups": True}, "penalty.off_constant_groups=True is for algorithms that compare"),
    ("ppo", {"placement": "zero_sum", "estimator": "exact"}, "penalty.placement=zero_sum is for algorithms that compare"),
]


@pytest.mark.parametrize(("name", "penalty", "message"), TOGETHER)
def test_what_does_not_fit_together_is_refused(name, penalty, message):
    settings = recipes.penalty("standard", **penalty)
    settings.check()
    with pytest.raises(InputError, match=message):
        recipes.algorithm(name).check_with(settings)
