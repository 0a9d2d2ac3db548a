"""Softmax objectives whose paths may end at inner nodes."""

import pytest
import torch

from htc import Hierarchy, InputError
from htc.decoding import expected
from htc.experiment.build import make_objective
from htc.experiment.config import LossConfig, loss_config
from htc.losses import ConditionalSoftmax, LeafSoftmax, ParameterSharingSoftmax, StopEvent

from ..conftest import random_dag, random_tree, single_paths

SOFTMAX = [LeafSoftmax, ConditionalSoftmax, ParameterSharingSoftmax]


def ends_of(sets, hierarchy):
    return hierarchy.most_specific(sets).to(torch.uint8).argmax(1)


@pytest.mark.parametrize("make", SOFTMAX)
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_a_path_is_minus_the_log_of_the_probability_of_its_end(make, seed):
    """Over leaves and stops it is a cross-entropy; so is it among siblings, whose conditional probabilities multiply."""
    h = random_tree(seed)
    objective, targets = StopEvent(h, make), single_paths(h, 12, seed, leaves_only=False)
    logits = torch.randn(12, objective.num_outputs, dtype=torch.double)
    ends = expected.end_probabilities(objective.probabilities(logits), h)
    torch.testing.assert_close(ends.sum(1), torch.ones(12, dtype=torch.double))
    probability = ends[torch.arange(12), ends_of(targets, h)]
    torch.testing.assert_close(objective.loss(logits, targets), -probability.log().mean())


@pytest.mark.parametrize("make", SOFTMAX)
def test_training_learns_where_to_stop(make):
    h = random_tree(4)
    objective, targets = StopEvent(h, make), single_paths(h, 12, leaves_only=False)
    logits = torch.zeros(12, objective.num_outputs, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        objective.loss(logits, targets).backward()
        optimizer.step()
    probabilities = objective.probabilities(logits.detach())
    assert torch.equal(expected.argmax_end(probabilities, h), targets)
    assert torch.equal(expected.expected_hf(probabilities, h), targets)


@pytest.mark.parametrize("make", SOFTMAX)
def test_several_paths_are_refused_still(make):
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    targets = h.encode([["Arts"], [["Arts", "Film"], ["Science"]]])
    with pytest.raises(InputError, match="document 1: a stop event needs a single path, and it has several"):
        StopEvent(h, make).loss(torch.zeros(2, StopEvent(h, make).num_outputs), targets)
    with pytest.raises(InputError, match="document 0: it has no label"):
        StopEvent(h, make).check_targets(torch.zeros(1, 4, dtype=torch.bool))


def test_without_inner_nodes_there_is_nothing_to_stop_at():
    h = Hierarchy.from_paths([["a"], ["b"]])
    plain, stop = ConditionalSoftmax(h), StopEvent(h, ConditionalSoftmax)
    logits = torch.randn(3, 2)
    torch.testing.assert_close(stop.probabilities(logits), plain.probabilities(logits))


def test_a_tree_is_needed():
    with pytest.raises(InputError, match="needs a tree"):
        StopEvent(random_dag(0), ConditionalSoftmax)


def test_by_config_with_priors_of_stopping():
    """A node where half of the documents stop has a prior of about one half for that."""
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    targets = h.encode([["Arts"]] * 20 + [["Arts", "Music"]] * 10 + [["Arts", "Film"]] * 10)
    config = loss_config("conditional_softmax_la", stop=True, tau=1.0, prior_smoothing=1e-6)
    objective = make_objective(config, h, targets)
    priors = objective.objective.adjustment.exp()
    torch.testing.assert_close(priors.sort().values, torch.tensor([0.25, 0.25, 0.5, 1.0]), atol=1e-5, rtol=0)
    again = make_objective(config, h, train_targets=None)  # a trained model needs no priors
    logits = torch.randn(2, objective.num_outputs)
    torch.testing.assert_close(objective.probabilities(logits), again.probabilities(logits))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LossConfig(name="bse"), "loss.name must be one of bce, "),
        (
            loss_config("conditional_softmax", recursive_regularization=0.1, stop=True),
            "one output for each node, which",
        ),
        (loss_config("bce", recursive_regularization=-1.0), "must not be negative"),
        (loss_config("focal", gamma=-1.0), "gamma must not be negative"),
        (loss_config("focal", alpha=0.0), "alpha must be between 0 and 1, not 0.0"),
        (loss_config("champ", reduction="max"), "reduction must be one of mean, sum, not 'max'"),
        (
            loss_config("parameter_sharing_softmax", margin=0.0, margin_form="nodes"),
            "margin_form must be one of edges",
        ),
    ],
)
def test_settings_that_do_not_go_together(config, message):
    with pytest.raises(InputError, match=message):
        make_objective(config, random_tree(0), None)
