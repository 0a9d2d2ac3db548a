"""Numbers at their edges: tokens of weight 0, of probability 0, half precision, ratios beyond float32, masks and groups."""

import math
from functools import partial

import pytest
import torch

from rlkl import kl, weighting
from rlkl.algorithms import a2c, grpo, ppo, rloo
from rlkl.certainty import CERTAINTIES, max_probability, min_entropy, negentropy
from rlkl.commands.config import AlgorithmConfig
from rlkl.distributions import token_log_probs
from rlkl.finetuning.experience import Scores, advantages_of, learn_from
from rlkl.finetuning.learner import loss_terms
from rlkl.model.sequences import Sequences
from rlkl.penalty import ESTIMATORS, Penalty
from rlkl_htc_common.errors import InputError

INF, NAN = math.inf, math.nan
LOWEST = torch.finfo(torch.float32).min


def exact_to(reference):
    return lambda logits: kl.exact(logits, torch.tensor(reference, dtype=torch.float64).to(logits.dtype))


# --- a weight of 0 -----------------------------------------------------------------------------------------------------------


def two_tokens(policy, reference):
    """Logits of one row of two tokens over a vocabulary of two: an ordinary one, and one with these log-odds of the target."""
    logits = torch.tensor([[[0.5, 0.0], [policy, 0.0]]], requires_grad=True)
    return logits, torch.tensor([[[0.0, 0.3], [reference, 0.0]]]), torch.zeros(1, 2, dtype=torch.long)


FAR = {  # log-odds of the second token's target, under policy and reference
    "k3 beyond float32": (-101.0, 5.0),
    "k2 and k3 beyond float32": (-1e25, 1.0),
    "excluded by the policy": (-INF, 1.0),
    "excluded by the reference": (1.0, -INF),
    "excluded by both": (-INF, -INF),
    "no number": (NAN, 1.0),
    "no number of the reference": (1.0, NAN),
    "fp16's least number": (-65504.0, 0.0),
}


@pytest.mark.parametrize("left_out", ["by weight", "by mask", "by both"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", FAR)
def test_what_is_left_out_adds_nothing(name, estimator, left_out):
    logits, reference, targets = two_tokens(*FAR[name])
    mask = torch.tensor([[True, left_out == "by weight"]])
    weights = torch.tensor([[1.0, 1.0 if left_out == "by mask" else 0.0]])
    penalty, two = Penalty("standard", estimator=estimator), torch.tensor(2)
    loss = penalty.loss(logits, reference, targets, weights, mask, two)
    gradient = torch.autograd.grad(loss, logits)[0]
    alone = logits.detach()[:, :1].requires_grad_()
    expected = penalty.loss(alone, reference[:, :1], targets[:, :1], weights[:, :1], mask[:, :1], two)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[:, :1], torch.autograd.grad(expected, alone)[0])
    assert not gradient[:, 1].any()


@pytest.mark.parametrize("name", FAR)
def test_no_penalty_depends_on_no_estimator(name, monkeypatch):
    logits, reference, targets = two_tokens(*FAR[name])
    mask = torch.ones(1, 2, dtype=torch.bool)
    monkeypatch.setattr(Penalty, "divergence", None)  # not even computed
    penalty = Penalty("none")
    loss = penalty.loss(logits, reference, targets, penalty.weights(reference, mask), mask)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize(
    "penalty",
    [
        Penalty("prioritized", beta=1e6),  # J ** beta underflows
        Penalty("prioritized", certainty="min_entropy", certainty_temperature=1e9),
        Penalty("shuffled", beta=1e6),
        Penalty("matched_mean", beta=1e6),
        Penalty("certain_tokens", share=1.0),
        Penalty("kl_cov", share=0.0),
        Penalty("certain_tokens", share=1.0, mean_over="penalized", certainty_of="policy"),
    ],
)
def test_weights_that_are_all_0_leave_everything_out(penalty):
    penalty.check()
    logits, targets = torch.tensor([[[-200.0, 0.0]] * 3], requires_grad=True), torch.zeros(1, 3, dtype=torch.long)
    reference, mask = torch.tensor([[[1.0, 0.0]] * 3]), torch.ones(1, 3, dtype=torch.bool)
    some = torch.tensor([[1.0, 2.0, 3.0]])
    weights = penalty.weights(reference, mask, log_probs=some, advantages=some, entropies=some)
    for estimator in ESTIMATORS:
        penalty.estimator = estimator
        loss = penalty.loss(logits, reference, targets, weights, mask)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, logits)[0].any()


def test_with_a_coefficient_of_0_no_kl_counts():
    logits, reference, targets = two_tokens(-200.0, 1.0)
    tokens = torch.cat([torch.zeros(1, 1, dtype=torch.long), targets], 1)
    episode = Sequences(tokens, torch.tensor([1]), torch.tensor([3]))
    old = token_log_probs(logits, targets).detach()
    scores = Scores(old, old, torch.zeros(1, 2), torch.full((1, 2), INF), reference)
    twice = Scores(*(values.expand(2, *values.shape[1:]) for values in vars(scores).values()))
    both = Sequences(tokens.expand(2, 3), torch.tensor([1, 1]), torch.tensor([3, 3]))
    for placement in ("loss", "reward"):
        penalty = Penalty("standard", alpha=0.0, estimator="k3", placement=placement)
        experience = learn_from(both, torch.tensor([1.0, 0.0]), twice, penalty, 0.0, AlgorithmConfig(), torch.Generator())
        assert experience.advantages.isfinite().all()
        batch, two = experience[torch.tensor([0])], torch.tensor(2)
        terms = loss_terms(logits, torch.zeros(1, 2), batch, penalty, 0.0, AlgorithmConfig(), two, two)
        assert sum(terms.values()).isfinite()
        assert terms.get("kl_loss", torch.tensor(0.0)).item() == 0
    assert episode.mask.all()


# --- a probability of 0 ------------------------------------------------------------------------------------------------------

LOG_3 = 1 - math.log(2) / math.log(3)  # negentropy of two equal tokens among three, .36907
PROBABILITY_0 = [
    (negentropy, [0.0, -INF], 1.0),
    (negentropy, [0.0, 0.0, -INF], LOG_3),
    (negentropy, [0.0, LOWEST], 1.0),
    (negentropy, [0.0, 0.0, LOWEST], LOG_3),
    (negentropy, [65504.0, -65504.0], 1.0),
    (negentropy, [65504.0, 65504.0, -65504.0], LOG_3),
    (negentropy, [-65504.0, -65504.0], 0.0),
    (negentropy, [-INF, -INF, 3.0, -INF], 1.0),
    (negentropy, [7.0], 1.0),
    (min_entropy, [0.0, -INF], 1.0),
    (min_entropy, [0.0, 0.0, -INF], LOG_3),
    (min_entropy, [7.0], 1.0),
    (max_probability, [0.0, -INF], 1.0),
    (max_probability, [0.0, 0.0, -INF], 0.5),
    (max_probability, [7.0], 1.0),
    (a2c.entropy, [0.0, -INF], 0.0),
    (a2c.entropy, [0.0, 0.0, -INF], math.log(2)),
    (a2c.entropy, [0.0, 0.0, LOWEST], math.log(2)),
    (a2c.entropy, [65504.0, -65504.0, 0.0], 0.0),
    (a2c.entropy, [7.0], 0.0),
    (exact_to([1.0, 0.0, 0.0]), [0.0, 0.0, -INF], 0.35830),
    (exact_to([0.0, 0.0, -INF]), [0.0, 0.0, -INF], 0.0),
    (exact_to([0.0, 0.0, -INF]), [0.0, 0.0, LOWEST], 0.0),  # each suppressed in a way of its own
    (exact_to([0.0, 0.0, LOWEST]), [0.0, 0.0, -INF], 0.0),
    (exact_to([0.0, -65504.0]), [0.0, -INF], 0.0),
    (exact_to([0.0, -INF, -INF]), [5.0, -INF, -INF], 0.0),
    (exact_to([3.0]), [7.0], 0.0),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("function", "logits", "expected"), PROBABILITY_0)
def test_tokens_without_probability(function, logits, expected, dtype):
    logits = torch.tensor([logits], dtype=torch.float64).to(dtype).requires_grad_()
    value = function(logits)
    assert value.item() == pytest.approx(expected, abs=2e-5)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_gradients_are_those_without_the_token_that_has_no_probability():
    torch.manual_seed(0)
    some, reference = torch.randn(4, 5).double(), torch.randn(4, 5).double()
    for function in (a2c.entropy, lambda logits: kl.exact(logits, reference[:, : logits.shape[1]])):
        alone = some[:, :4].clone().requires_grad_()
        padded = some.clone().index_fill(1, torch.tensor([4]), -INF).requires_grad_()
        reference[:, 4] = -INF
        expected = torch.autograd.grad(function(alone).sum(), alone)[0]
        found = torch.autograd.grad(function(padded).sum(), padded)[0]
        torch.testing.assert_close(found[:, :4], expected)
        assert not found[:, 4].any()


@pytest.mark.parametrize(
    ("p", "q", "expected"), [(-1.0, -INF, [INF] * 3), (-INF, -1.0, [-INF, INF, INF]), (-INF, -INF, [0.0] * 3)]
)
def test_log_probabilities_of_nothing(p, q, expected):
    p, q = torch.tensor([[p]], requires_grad=True), torch.tensor([[q]])
    assert [estimator(p, q).item() for estimator in kl.SAMPLED.values()] == expected
    if expected == [0.0] * 3:
        assert not any(torch.autograd.grad(estimator(p, q).sum(), p)[0].any() for estimator in kl.SAMPLED.values())


def test_a_token_that_the_reference_alone_excludes_has_an_infinite_kl():
    assert kl.exact(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, -INF]])).item() == INF
    assert kl.exact(torch.tensor([[1.0, 0.0]]), torch.tensor([[-INF, 0.0]])).item() == INF


# --- half precision ----------------------------------------------------------------------------------------------------------


def functions_of_tensors():
    """By name: a function, and what it takes: V for (B, T, V) logits, T for (B, T) numbers, P for numbers from 0 to 1."""
    mask, targets = torch.ones(4, 9, dtype=torch.bool), torch.arange(36).view(4, 9)
    temperate = {f"{name} at 0.7": (lambda x, f=f: f(x, 0.7), "V") for name, f in CERTAINTIES.items()}
    weightings = {name: (lambda x, f=f: f(x, mask, 150.0), "P") for name, f in weighting.WEIGHTINGS.items()}
    return {
        **{name: (f, "V") for name, f in CERTAINTIES.items()},
        **temperate,
        **weightings,
        **{name: (f, "TT") for name, f in kl.SAMPLED.items()},
        "exact": (kl.exact, "VV"),
        "entropy": (a2c.entropy, "V"),
        "token_log_probs": (lambda x: token_log_probs(x, targets), "V"),
        "J ** 150": (lambda x: weighting.prioritized(negentropy(x), mask, 150.0), "V"),
        "masked_mean": (lambda x: weighting.masked_mean(x, mask), "T"),
        "weighted_mean": (lambda x, y, w: weighting.weighted_mean(kl.k3, x, y, weights=w, mask=mask), "TTP"),
        "covariances": (lambda x, y: weighting.covariances(x, y, mask), "TT"),
        "shuffled": (lambda x: weighting.shuffled(x, mask, torch.Generator().manual_seed(0)), "T"),
        "gae": (lambda x, y: a2c.gae(x, y, mask, 0.9, 0.9), "TT"),
        "at_last_token": (lambda x: a2c.at_last_token(x[:, 0], mask), "T"),
        "a2c": (lambda x, y: a2c.policy_loss(x, y, mask), "TT"),
        "value_loss": (lambda x, y: a2c.value_loss(x, y, mask), "TT"),
        "ppo": (lambda x, y: ppo.policy_loss(x, y, x, mask), "TT"),
        "beyond": (lambda x, y: ppo.beyond_clip_range(x, y).float(), "TT"),
        "grpo": (lambda x: grpo.advantages(x[:, 0], 2), "T"),
        "rloo": (lambda x: rloo.advantages(x[:, 0], 2), "T"),
        **{
            f"{penalty.weighting}, {penalty.estimator}": (lambda x, y, p=penalty: loss_of(p, x, y, targets, mask), "VV")
            for penalty in (
                Penalty(estimator="k2"),
                Penalty("standard", estimator="k3"),
                Penalty("standard", estimator="exact"),
            )
        },
    }


def loss_of(penalty, logits, reference, targets, mask):
    return penalty.loss(logits, reference, targets, penalty.weights(reference, mask), mask)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", functions_of_tensors())
def test_half_precision_is_taken_to_float32_first(name, dtype):
    function, shapes = functions_of_tensors()[name]
    torch.manual_seed(0)
    drawn = {shape: partial(torch.randn, 4, 9, 41) if shape == "V" else partial(torch.randn, 4, 9) for shape in "VTP"}
    inputs = [(drawn[shape]().sigmoid() if shape == "P" else 4 * drawn[shape]()).to(dtype) for shape in shapes]
    found, expected = function(*inputs), function(*(values.float() for values in inputs))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    doubles = function(*(values.double() for values in inputs))
    assert doubles.dtype == torch.float64 or name == "beyond"
    torch.testing.assert_close(doubles.float(), expected, rtol=1e-3, atol=1e-4)


# --- ratios, groups and masks ------------------------------------------------------------------------------------------------

RATIOS = [  # log-ratio, advantage, the token's loss
    (100.0, 0.0, 0.0),
    (1000.0, 0.0, 0.0),
    (INF, 0.0, 0.0),
    (-INF, 0.0, 0.0),
    (100.0, 1.0, -1.2),
    (1000.0, 2.5, -3.0),
    (INF, 1.0, -1.2),
    (-1000.0, 1.0, 0.0),
    (-INF, 1.0, 0.0),
    (-1000.0, -1.0, 0.8),
    (-INF, -1.0, 0.8),
]


@pytest.mark.parametrize(("log_ratio", "advantage", "expected"), RATIOS)
@pytest.mark.parametrize("clip_range", [0.2, torch.full((1, 2), 0.2)])
def test_the_clipped_loss_at_its_edges(log_ratio, advantage, expected, clip_range):
    old = torch.tensor([[-1.0, -1.0]]) if log_ratio < 0 else torch.tensor([[-1.0, -1.0 - log_ratio]])
    log_probs = torch.tensor([[-1.0, -1.0 + log_ratio if log_ratio < 0 else -1.0]], requires_grad=True)
    mask, advantages = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.0, advantage]])
    loss = ppo.policy_loss(log_probs, old, advantages, mask, clip_range)
    assert 2 * loss.item() == pytest.approx(expected)
    assert not torch.autograd.grad(loss, log_probs)[0].any()
    assert ppo.beyond_clip_range(log_probs, old, clip_range)[0, 1]


def test_a_ratio_that_is_too_large_is_not_clipped_where_it_must_come_down():
    log_probs = torch.zeros(1, 1, requires_grad=True)
    for log_ratio, expected in ((30.0, math.exp(30)), (100.0, INF)):
        loss = ppo.policy_loss(log_probs, torch.tensor([[-log_ratio]]), -torch.ones(1, 1), torch.ones(1, 1).bool())
        assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("log_prob", [-INF, -1e30])
def test_without_an_advantage_there_is_no_policy_gradient(log_prob):
    log_probs = torch.tensor([[-1.0, log_prob]], requires_grad=True)
    loss = a2c.policy_loss(log_probs, torch.tensor([[2.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == 1.0
    assert torch.autograd.grad(loss, log_probs)[0].tolist() == [[-1.0, 0.0]]


@pytest.mark.parametrize("advantages", [grpo.advantages, rloo.advantages])
@pytest.mark.parametrize(
    ("episodes", "group", "message"),
    [
        (3, 1, "group_size must be at least 2, not 1"),
        (4, 0, "group_size must be at least 2, not 0"),
        (4, -2, "group_size must be at least 2, not -2"),
        (5, 2, "5 episodes do not divide into groups of 2"),
        (3, 5, "3 episodes do not divide into groups of 5"),
        (0, 2, "0 episodes do not divide into groups of 2"),
    ],
)
def test_groups_that_compare_nothing_are_refused(advantages, episodes, group, message):
    with pytest.raises(InputError, match=message):
        advantages(torch.ones(episodes), group)


def test_a_single_episode_has_no_deviation():
    with pytest.raises(InputError, match="give at least 2 episodes, not 1"):
        advantages_of(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), AlgorithmConfig())


HOLES = [
    ([[1, 1, 1], [1, 0, 1]], "row 1 of the mask has a hole: 2 runs"),
    ([[0, 1, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0]], "row 0 of the mask has a hole: 3 runs"),
    ([[1, 0, 0, 0, 1]], "row 0 of the mask has a hole: 2 runs"),
]


@pytest.mark.parametrize(("mask", "message"), HOLES)
def test_masks_with_a_hole_are_refused(mask, message):
    mask = torch.tensor(mask).bool()
    with pytest.raises(InputError, match=message):
        a2c.at_last_token(torch.ones(len(mask)), mask)
    with pytest.raises(InputError, match=message):
        a2c.gae(torch.zeros(mask.shape), torch.zeros(mask.shape), mask)


def test_a_reward_needs_a_token():
    mask = torch.tensor([[1, 1], [0, 0], [0, 1]]).bool()
    with pytest.raises(InputError, match="row 1 of the mask is empty"):
        a2c.at_last_token(torch.ones(3), mask)
    assert a2c.at_last_token(torch.tensor([1.0, 2.0]), mask[[0, 2]]).tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert not a2c.gae(torch.zeros(3, 2), torch.ones(3, 2), mask)[1].any()
