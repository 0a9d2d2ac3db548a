import math

import pytest
import torch

from rlkl import kl
from rlkl.distributions import token_log_probs

P, Q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
KL = 0.5 * math.log(2) + 0.25 * math.log(0.5)


def log(values):
    return torch.tensor(values, dtype=torch.float64).log()


def test_values_by_hand():
    p, q = log(P), log(Q)
    torch.testing.assert_close(kl.k1(p, q), torch.tensor([math.log(2), 0.0, -math.log(2)], dtype=torch.float64))
    torch.testing.assert_close(kl.k2(p, q), torch.tensor([math.log(2) ** 2 / 2, 0.0, math.log(2) ** 2 / 2]).double())
    torch.testing.assert_close(kl.k3(p, q), torch.tensor([0.5 - 1 + math.log(2), 0.0, 2 - 1 - math.log(2)]).double())
    assert kl.exact(p, q).item() == pytest.approx(KL)


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_unbiased(name):
    p, q = log(P), log(Q)
    assert (p.exp() * kl.SAMPLED[name](p, q)).sum().item() == pytest.approx(KL)


@pytest.mark.parametrize("name", kl.SAMPLED)
def test_gradients_by_finite_differences(name):
    torch.manual_seed(0)
    p, q = (torch.randn(2, 5, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(kl.SAMPLED[name], (p.requires_grad_(), q))


def test_gradient_of_the_exact_kl_by_finite_differences():
    torch.manual_seed(0)
    p, q = (torch.randn(2, 3, 5, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(kl.exact, (p.requires_grad_(), q))


def expected_gradient(estimator, logits, reference):
    """The gradient of an estimator as a loss, averaged over tokens that are sampled from the policy."""
    log_probs = logits.log_softmax(-1)
    loss = (log_probs.detach().exp() * estimator(log_probs, reference.log_softmax(-1))).sum()
    return torch.autograd.grad(loss, logits)[0]


def test_what_each_estimator_teaches_in_expectation():
    torch.manual_seed(0)
    logits, reference = torch.randn(7, dtype=torch.float64, requires_grad=True), torch.randn(7, dtype=torch.float64)
    exact = torch.autograd.grad(kl.exact(logits, reference), logits)[0]
    torch.testing.assert_close(expected_gradient(kl.k2, logits, reference), exact)
    torch.testing.assert_close(expected_gradient(kl.k1, logits, reference), torch.zeros(7, dtype=torch.float64))
    backward = torch.autograd.grad(kl.exact(reference, logits), logits)[0]
    torch.testing.assert_close(expected_gradient(kl.k3, logits, reference), backward)


def test_equal_policies_have_no_kl():
    logits = torch.randn(2, 3, 5)
    targets = torch.randint(0, 5, (2, 3))
    log_probs = token_log_probs(logits, targets)
    for estimator in kl.SAMPLED.values():
        assert torch.equal(estimator(log_probs, log_probs), torch.zeros(2, 3))
    assert torch.equal(kl.exact(logits, logits), torch.zeros(2, 3))
