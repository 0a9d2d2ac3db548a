import pytest
import torch

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.errors import InputError
from rlkl.penalty import ESTIMATORS, Penalty
from rlkl.sequences import token_log_probs
from rlkl.weighting import WEIGHTINGS, masked_mean, matched_mean, prioritized, uniform

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
    divergence = Penalty(estimator=estimator).divergence(logits, reference, targets)
    standard = 5.0 * masked_mean(divergence, mask)
    for penalty in (Penalty("standard", estimator=estimator), Penalty("prioritized", estimator=estimator, beta=0.0)):
        weights = penalty.weights(reference, mask)
        assert torch.equal(penalty.loss(logits, reference, targets, weights, mask), standard)
        ours = torch.autograd.grad(penalty.loss(logits, reference, targets, weights, mask), logits, retain_graph=True)[0]
        assert torch.equal(ours, torch.autograd.grad(standard, logits, retain_graph=True)[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_masked_tokens_get_no_gradient(batch, estimator, weighting):
    logits, reference, targets, mask = batch
    penalty = Penalty(weighting, estimator=estimator)
    penalty.loss(logits, reference, targets, penalty.weights(reference, mask), mask).backward()
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
    penalty = Penalty("prioritized", alpha=3.0, certainty="min_entropy", certainty_temperature=2.0, beta=10.0)
    loss = penalty.loss(logits, reference, targets, penalty.weights(reference, mask), mask)
    assert loss.item() == pytest.approx(3.0 * terms[mask].mean().item(), rel=1e-5)


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
        ({"alpha": -1.0}, "must not be negative"),
        ({"alpha": float("nan")}, "must not be negative"),
        ({"beta": -1.0}, "must not be negative"),
        ({"certainty_temperature": 0.0}, "must be positive"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(InputError, match=message):
        Penalty(**change).check()
