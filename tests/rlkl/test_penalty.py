import pytest
import torch

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.distributions import token_log_probs
from rlkl.penalty import adapted
from rlkl.settings import ESTIMATORS
from rlkl.settings import WEIGHTINGS as NAMES
from rlkl.weighting import WEIGHTINGS, covariances, masked_mean, matched_mean, prioritized, shuffled, top_share, uniform
from rlkl_htc_common.errors import InputError

from . import recipes

B, T, V = 3, 5, 7


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(B, T, V, requires_grad=True)
    reference = 3 * torch.randn(B, T, V)
    targets = torch.randint(0, V, (B, T))
    mask = torch.rand(B, T) < 0.6
    return logits, reference, targets, mask


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weight_one_is_the_standard_kl_bit_for_bit(batch, estimator):
    logits, reference, targets, mask = batch
    divergence = recipes.penalty(estimator=estimator).divergence(logits, reference, targets)
    standard = masked_mean(divergence, mask)
    for penalty in (
        recipes.penalty("standard", estimator=estimator),
        recipes.penalty("prioritized", estimator=estimator, beta=0.0),
    ):
        weights = penalty.weights(reference, mask)
        assert torch.equal(penalty.loss(logits, reference, targets, weights, mask), standard)
        ours = torch.autograd.grad(penalty.loss(logits, reference, targets, weights, mask), logits, retain_graph=True)[0]
        assert torch.equal(ours, torch.autograd.grad(standard, logits, retain_graph=True)[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("weighting", NAMES)
def test_masked_tokens_get_no_gradient(batch, estimator, weighting):
    logits, reference, targets, mask = batch
    penalty = recipes.penalty(weighting, estimator=estimator, share=0.2)
    weights = penalty.weights(reference, mask, log_probs=token_log_probs(logits, targets), advantages=torch.randn(B, T))
    penalty.loss(logits, reference, targets, weights, mask).backward()
    assert not logits.grad[~mask].any()
    assert bool(logits.grad[mask].any()) == (weighting != "none")


def test_a_masked_token_may_be_anything(batch):
    values, mask = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]]), torch.tensor([[True, False], [True, False]])
    assert masked_mean(values.requires_grad_(), mask).item() == 2.0
    masked_mean(values, mask).backward()
    assert torch.equal(values.grad, torch.tensor([[0.5, 0.0], [0.5, 0.0]]))


def test_the_loss_by_hand(batch):
    logits, reference, targets, mask = batch
    certainty = CERTAINTIES["min_entropy"](reference, 2.0)
    terms = certainty**10 * kl.k2(token_log_probs(logits, targets), token_log_probs(reference, targets))
    penalty = recipes.penalty("prioritized", certainty="min_entropy", certainty_temperature=2.0, beta=10.0)
    loss = penalty.loss(logits, reference, targets, penalty.weights(reference, mask), mask)
    assert loss.item() == pytest.approx(terms[mask].mean().item(), rel=1e-5)


def test_the_control_has_the_same_mean_weight_and_no_preference(batch):
    _, reference, _, mask = batch
    certainty = CERTAINTIES["negentropy"](reference)
    control, ours = matched_mean(certainty, mask, 20.0), prioritized(certainty, mask, 20.0)
    assert control[mask].mean().item() == pytest.approx(ours[mask].mean().item())
    assert control.unique().numel() == 1
    assert 0 < control[0, 0] < 1


def test_weights_are_constants_of_the_loss(batch):
    certainty = torch.rand(B, T, requires_grad=True)
    for weighting in WEIGHTINGS.values():
        assert not weighting(certainty, batch[3], 5.0).requires_grad
    assert torch.equal(uniform(certainty, batch[3], 5.0), torch.ones(B, T))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weighting": "prioritised"}, "penalty.weighting must be one of none, standard"),
        ({"estimator": "k1"}, "penalty.estimator must be one of k2"),
        ({"certainty": "entropy"}, "penalty.certainty must be one of negentropy"),
        ({"alpha": -1.0}, "must be a number of at least 0"),
        ({"alpha": float("nan")}, "must be a number of at least 0"),
        ({"beta": -1.0}, "must be a number of at least 0"),
        ({"weighting": "certain_tokens", "share": 1.5}, "penalty.share must be from 0 to 1"),
        ({"placement": "both"}, "penalty.placement must be one of loss, reward"),
        ({"weighting": "kl_cov", "placement": "reward"}, "needs advantages"),
        ({"target_kl": 0.0}, "must be positive"),
        ({"target_kl": 0.1, "alpha": 0.0}, "must be positive"),
        ({"certainty_temperature": 0.0}, "must be positive"),
        ({"certainty_of": "me"}, "penalty.certainty_of must be one of reference, policy"),
        ({"share_count": "up"}, "penalty.share_count must be one of rounded, at_least_one"),
        ({"mean_over": "some"}, "penalty.mean_over must be one of all, penalized"),
        ({"anchor": "old"}, "penalty.anchor must be one of reference, acting"),
        ({"correction": "trl"}, "penalty.correction must be one of none, importance"),
        ({"certainty_of": "policy"}, "is for penalty.weighting=certain_tokens, not for prioritized"),
        ({"weighting": "certain_tokens", "share_count": "at_least_one"}, "is for penalty.weighting=kl_cov"),
        ({"placement": "reward", "mean_over": "penalized"}, "rewards are not averaged"),
        ({"placement": "reward", "anchor": "acting"}, "that KL is 0"),
        ({"placement": "reward", "correction": "importance"}, "that ratio is 1"),
        ({"anchor": "acting", "estimator": "exact"}, "no meaning with penalty.estimator=exact"),
        ({"correction": "importance", "estimator": "exact"}, "no meaning with penalty.estimator=exact"),
        ({"anchor": "acting", "target_kl": 0.1}, "no meaning with penalty.anchor=acting"),
        ({"placement": "future"}, "penalty.estimator must be one of k1 where penalty.placement is future, not 'k2'"),
        ({"placement": "zero_sum", "estimator": "k3"}, "must be one of exact, k1 where penalty.placement is zero_sum"),
        ({"placement": "future", "estimator": "k1", "mean_over": "penalized"}, "advantages are not averaged"),
        ({"placement": "future", "estimator": "k1", "anchor": "acting"}, "that KL is 0 when advantages are made"),
        (
            {"placement": "zero_sum", "estimator": "exact", "correction": "importance"},
            "no meaning with penalty.placement=zero_sum",
        ),
        *(
            ({"placement": placement, "estimator": "k1", "off_clipped": True}, "a part of what is clipped")
            for placement in ("reward", "future", "zero_sum")
        ),
        (
            {"weighting": "certain_tokens", "placement": "future", "estimator": "k1", "certainty_of": "current"},
            "weights are made before the steps",
        ),
        ({"off_clipped": True, "weighting": "certain_tokens", "mean_over": "penalized"}, "differs from step to step"),
        ({"certainty_of": "current"}, "is for penalty.weighting=certain_tokens, not for prioritized"),
        ({"weighting": "certain_tokens", "entropy_window": 4}, "penalty.entropy_window is of a policy's entropies"),
        ({"weighting": "certain_tokens", "certainty_of": "policy", "entropy_window": 0}, "must be at least 1, not 0"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(InputError, match=message):
        recipes.penalty(**change).check()


def test_shuffled_weights_are_the_same_on_other_tokens(batch):
    mask = batch[3]
    weights = torch.rand(B, T, requires_grad=True)
    moved = shuffled(weights, mask, torch.Generator().manual_seed(0))
    assert torch.equal(moved[mask].sort().values, weights[mask].sort().values)
    assert not torch.equal(moved[mask], weights[mask])
    assert torch.equal(moved[~mask], weights[~mask])
    assert not moved.requires_grad


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_top_share_holds_the_highest_values(batch, share):
    values, mask = torch.rand(B, T), batch[3]
    top = top_share(values, mask, share)
    assert top.sum() == round(share * int(mask.sum()))
    assert not (top & ~mask).any()
    if 0 < share < 1:
        assert values[top].min() >= values[mask & ~top].max()


def test_no_kl_where_the_reference_is_least_certain(batch):
    _, reference, _, mask = batch
    weights = recipes.penalty("certain_tokens", share=0.3).weights(reference, mask)
    certainty = CERTAINTIES["negentropy"](reference)
    for row in range(B):
        free, bound = mask[row] & (weights[row] == 0), mask[row] & (weights[row] == 1)
        assert free.sum() == round(0.3 * int(mask[row].sum()))
        assert certainty[row][free].max() <= certainty[row][bound].min()


def test_covariances_are_those_of_the_definition(batch):
    log_probs, advantages, mask = torch.randn(B, T), torch.randn(B, T), batch[3]
    found = covariances(log_probs, advantages, mask)[mask]
    expected = torch.stack([log_probs[mask], advantages[mask]]).cov(correction=0)[0, 1]
    torch.testing.assert_close(found.mean(), expected)
    weights = recipes.penalty("kl_cov", share=0.3).weights(batch[1], mask, log_probs=log_probs, advantages=advantages)
    assert found[weights[mask] == 1].min() >= found[weights[mask] == 0].max()


def test_the_coefficient_goes_where_the_target_is():
    assert adapted(5.0, 0.3, 0.1) == pytest.approx(5.25)
    assert adapted(5.0, 0.0, 0.1) == pytest.approx(4.75)
    assert adapted(5.0, 0.11, 0.1) == pytest.approx(5.125)
    assert adapted(5.0, 0.1, 0.1) == 5.0


def test_the_mean_over_the_penalized_tokens(batch):
    """Archer's normaliser: the sum over the certain tokens, divided by how many they are."""
    logits, reference, targets, mask = batch
    ours, theirs = (
        recipes.penalty("certain_tokens", share=0.4),
        recipes.penalty("certain_tokens", share=0.4, mean_over="penalized"),
    )
    weights = ours.weights(reference, mask)
    divergence = kl.k2(token_log_probs(logits, targets), token_log_probs(reference, targets))
    certain = mask & (weights == 1)
    torch.testing.assert_close(theirs.loss(logits, reference, targets, weights, mask), divergence[certain].mean())
    torch.testing.assert_close(ours.loss(logits, reference, targets, weights, mask), divergence[certain].sum() / mask.sum())


def test_certain_tokens_by_the_entropy_of_the_policy(batch):
    _, reference, _, mask = batch
    entropies = torch.rand(B, T)
    weights = recipes.penalty("certain_tokens", share=0.5, certainty_of="policy").weights(reference, mask, entropies=entropies)
    for row in range(B):
        free, bound = mask[row] & (weights[row] == 0), mask[row] & (weights[row] == 1)
        assert free.sum() == round(0.5 * int(mask[row].sum()))
        if free.any() and bound.any():
            assert entropies[row][free].min() >= entropies[row][bound].max()
    with pytest.raises(ValueError, match="needs entropies"):
        recipes.penalty("certain_tokens", certainty_of="policy").weights(reference, mask)


@pytest.mark.parametrize(
    ("share", "rounded", "published"), [(0.002, 0, 1), (0.0, 0, 1), (0.19, 2, 1), (0.29, 3, 2), (1.0, 10, 10)]
)
def test_how_many_tokens_kl_cov_takes(share, rounded, published):
    log_probs, advantages, mask = torch.randn(1, 10), torch.randn(1, 10), torch.ones(1, 10, dtype=torch.bool)
    for count, expected in (("rounded", rounded), ("at_least_one", published)):
        penalty = recipes.penalty("kl_cov", share=share, share_count=count)
        penalty.check()
        weights = penalty.weights(torch.zeros(1, 10, V), mask, log_probs=log_probs, advantages=advantages)
        assert weights.sum() == expected


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_kl_to_the_policy_that_acted(batch, estimator):
    logits, reference, targets, mask = batch
    acting, ones = -torch.rand(B, T), torch.ones(B, T)
    penalty = recipes.penalty("standard", anchor="acting", estimator=estimator)
    expected = masked_mean(kl.SAMPLED[estimator](token_log_probs(logits, targets), acting), mask)
    torch.testing.assert_close(penalty.loss(logits, reference, targets, ones, mask, acting_log_probs=acting), expected)
    unmoved = token_log_probs(logits, targets).detach()
    assert penalty.loss(logits, reference, targets, ones, mask, acting_log_probs=unmoved).item() == 0
    with pytest.raises(ValueError, match="need acting_log_probs"):
        penalty.loss(logits, reference, targets, ones, mask)


def test_the_corrected_kl_has_the_gradient_of_the_kl_whoever_sampled():
    """Over all tokens, each as often as an older policy samples it, k3 times the ratio is the KL, in value and gradient."""
    torch.manual_seed(0)
    logits = torch.randn(1, 1, V, dtype=torch.float64, requires_grad=True)
    reference, acting = torch.randn(1, 1, V).double(), torch.randn(V).double().log_softmax(0)
    penalty = recipes.penalty("standard", estimator="k3", correction="importance")
    found = sum(
        acting[token].exp()
        * penalty.loss(
            logits,
            reference,
            torch.tensor([[token]]),
            torch.ones(1, 1).double(),
            torch.ones(1, 1, dtype=torch.bool),
            acting_log_probs=acting[token].view(1, 1),
        )
        for token in range(V)
    )
    expected = kl.exact(logits, reference).sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@pytest.mark.parametrize(
    "options", [{"anchor": "acting"}, {"correction": "importance"}, {"anchor": "acting", "correction": "importance"}]
)
def test_variants_leave_out_what_has_weight_0(batch, estimator, options):
    logits, reference, targets, mask = batch
    acting, weights = torch.full((B, T), -torch.inf), torch.zeros(B, T)
    penalty = recipes.penalty("standard", estimator=estimator, mean_over="penalized", **options)
    penalty.check()
    loss = penalty.loss(logits, reference, targets, weights, mask, acting_log_probs=acting)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()
