import math

import pytest
import torch

from htc import Hierarchy, InputError
from htc.estimator import HierarchicalClassifier
from htc.experiment.build import choose_loss, make_objective
from htc.experiment.config import LossConfig, loss_config
from htc.losses import (
    BCE,
    ConditionalSoftmax,
    LeafSoftmax,
    StopEvent,
    base_rate_log_odds,
    conditional_priors,
    counted_priors,
    objective_by_name,
)
from htc.losses.by_name import OBJECTIVES, SOFTMAX_OBJECTIVES


def slow_conditional_log_probabilities(logits, hierarchy):
    """Log-softmax group by group, as the definition reads."""
    out = torch.empty_like(logits)
    for parent in {-1, *hierarchy.parent.tolist()}:
        group = hierarchy.parent == parent
        if group.any():
            out[:, group] = logits[:, group].log_softmax(1)
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("adjusted", [False, True])
def test_conditional_softmax_follows_its_definition(seed, adjusted, make_tree, make_targets):
    h = make_tree(seed)
    targets = make_targets(h, 16, seed, leaves_only=False)
    logits = torch.randn(16, h.num_nodes, dtype=torch.double, requires_grad=True)
    priors = conditional_priors(targets, h) if adjusted else None
    objective = ConditionalSoftmax(h, priors, tau=0.7)
    seen = logits + 0.7 * priors.log() if adjusted else logits
    expected = -(slow_conditional_log_probabilities(seen, h) * targets).sum() / 16
    loss = objective.loss(logits, targets)
    torch.testing.assert_close(loss, expected, check_dtype=False)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    conditional = slow_conditional_log_probabilities(logits.detach(), h).exp()
    marginal = torch.ones_like(conditional)
    for node in range(h.num_nodes):
        above = h.ancestors[1][h.ancestors[0] == node]
        marginal[:, node] = conditional[:, above].prod(1)
    torch.testing.assert_close(objective.probabilities(logits.detach()), marginal)


def test_conditional_softmax_stays_finite_at_extreme_logits(small, make_targets):
    logits = torch.tensor([[1e4, -1e4] * (small.num_nodes // 2) + [0.0] * (small.num_nodes % 2)], requires_grad=True)
    objective = ConditionalSoftmax(small)
    loss = objective.loss(logits, make_targets(small, 1))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert objective.probabilities(logits).isfinite().all()


def test_bce_is_the_mean_over_cells(small, make_targets):
    targets, logits = make_targets(small, 7), torch.randn(7, small.num_nodes)
    cells = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    torch.testing.assert_close(BCE(small).loss(logits, targets), cells.mean())


def test_base_rates_minimise_bce_of_a_constant_prediction(small, make_targets):
    targets = make_targets(small, 50)
    start = base_rate_log_odds(targets, smoothing=1e-6).requires_grad_()
    (gradient,) = torch.autograd.grad(BCE(small).loss(start.expand(50, -1), targets), start)
    assert gradient.abs().max() < 1e-6
    assert base_rate_log_odds(torch.zeros(4, 2, dtype=torch.bool)).tolist() == pytest.approx([math.log(1 / 5)] * 2)


def test_leaf_softmax_is_cross_entropy_over_leaves(small, make_targets):
    objective = LeafSoftmax(small)
    targets = make_targets(small, 10)
    logits = torch.randn(10, len(small.leaves))
    expected = torch.nn.functional.cross_entropy(logits, targets[:, small.leaves].int().argmax(1))
    torch.testing.assert_close(objective.loss(logits, targets), expected)
    probabilities = objective.probabilities(logits)
    torch.testing.assert_close(probabilities[:, small.leaves], logits.softmax(1))
    torch.testing.assert_close(probabilities[:, small.levels[0]].sum(1), torch.ones(10))


def test_gradients_by_finite_differences(small, make_targets):
    targets = make_targets(small, 3)
    for objective in (BCE(small), LeafSoftmax(small), ConditionalSoftmax(small, conditional_priors(targets, small).double())):
        logits = torch.randn(3, objective.num_outputs, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, o=objective: o.loss(x, targets), logits)


def test_priors_are_shares_among_siblings(small):
    targets = small.encode([["Arts", "Film"]] * 3 + [["Arts", "Music", "Jazz"]] + [["Science", "Physics", "Heat"]])
    priors = conditional_priors(targets, small, smoothing=1.0)
    at = {"/".join(path): float(p) for path, p in zip(small.paths, priors, strict=True)}
    assert at["Arts"] == pytest.approx(5 / 7)  # (4 + 1) / (5 + 2)
    assert at["Arts/Film"] == pytest.approx(4 / 7)  # (3 + 1) / (4 + 3)
    assert at["Science/Physics/Optics"] == pytest.approx(1 / 4)  # never seen, and still positive
    totals = torch.zeros(int(small.sibling_group.max()) + 1).index_add(0, small.sibling_group, priors)
    torch.testing.assert_close(totals, torch.ones_like(totals))
    with pytest.raises(InputError, match="smoothing must be positive"):
        conditional_priors(targets, small, smoothing=0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((2, 0), (2 / 3, 1 / 3)),
        ((3, 1), (0.75, 0.25)),
        ((0, 0), (0.5, 0.5)),
        ((1, 0), (0.5, 0.5)),
        ((9, 0, 0, 1), (9 / 12, 1 / 12, 1 / 12, 1 / 12)),
    ],
)
def test_priors_of_the_papers_code_are_plain_counts(counts, expected):
    h = Hierarchy.from_paths([["top", f"{i}"] for i in range(len(counts))])
    targets = h.encode([["top", f"{i}"] for i, count in enumerate(counts) for _ in range(count)] or [["top"]])
    assert counted_priors(targets, h).tolist() == pytest.approx([1.0, *expected])
    by_name = objective_by_name("conditional_softmax_la", h, targets, priors="counts")
    torch.testing.assert_close(by_name.adjustment.exp(), counted_priors(targets, h))
    stopping = objective_by_name("conditional_softmax_la", h, targets, priors="counts", stop=True)
    assert stopping.objective.adjustment.isfinite().all()
    with pytest.raises(InputError, match="priors must be one of smoothed, counts, not 'raw'"):
        objective_by_name("conditional_softmax_la", h, targets, priors="raw")


def test_adjustment_is_for_training_only(small, make_targets):
    priors = conditional_priors(make_targets(small, 50), small)
    logits = torch.randn(5, small.num_nodes)
    adjusted, plain = ConditionalSoftmax(small, priors), ConditionalSoftmax(small)
    torch.testing.assert_close(adjusted.probabilities(logits), plain.probabilities(logits))
    targets = make_targets(small, 5)
    assert not torch.isclose(adjusted.loss(logits, targets), plain.loss(logits, targets))
    torch.testing.assert_close(ConditionalSoftmax(small, priors, tau=0.0).loss(logits, targets), plain.loss(logits, targets))


@pytest.mark.parametrize("objective", [LeafSoftmax, ConditionalSoftmax])
def test_softmax_objectives_refuse_what_they_cannot_express(objective, small):
    several = small.encode([["Arts", "Film"], [["Arts", "Film"], ["Science", "Basics"]]])
    with pytest.raises(InputError, match=r"document 1: .* needs"):
        objective(small).loss(torch.zeros(2, objective(small).num_outputs), several)
    nothing = torch.zeros(1, small.num_nodes, dtype=torch.bool)
    with pytest.raises(InputError, match="document 0: it has no label"):
        objective(small).check_targets(nothing)


def test_inner_endings(small):
    inner = small.encode([["Arts"]])
    with pytest.raises(InputError, match="document 0: leaf softmax needs exactly one leaf, and it has 0"):
        LeafSoftmax(small).check_targets(inner)
    ConditionalSoftmax(small).check_targets(inner)


def test_conditional_softmax_needs_a_tree_and_fitting_priors(make_dag, small):
    with pytest.raises(InputError, match="needs a tree"):
        ConditionalSoftmax(make_dag(0))
    for priors in (torch.zeros(small.num_nodes), torch.ones(3)):
        with pytest.raises(InputError, match="positive numbers"):
            ConditionalSoftmax(small, priors)


TREE = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics", "Optics"]])
FLAT = Hierarchy.from_paths([["a"], ["b"], ["c"]])
DAG = Hierarchy.from_pairs([("Arts", "Acoustics"), ("Science", "Acoustics"), ("Science", "Physics")])
MUSIC, OPTICS = ["Arts", "Music"], ["Science", "Physics", "Optics"]
SUITABLE = [  # hierarchy, labels of the training documents, objective, why
    (TREE, [MUSIC, OPTICS], "conditional_softmax", "each training document has one path to a leaf"),
    (TREE, [MUSIC], "conditional_softmax", "one path to a leaf"),
    (TREE, [[MUSIC], [OPTICS]], "conditional_softmax", "one path to a leaf"),
    (TREE, [["Music", "Arts"], ["Optics"]], "conditional_softmax", "one path to a leaf"),
    (TREE, [[["Arts"], MUSIC], OPTICS], "conditional_softmax", "one path to a leaf"),
    (FLAT, [["a"], ["b"], ["a"]], "conditional_softmax", "one path to a leaf"),
    (Hierarchy.from_paths([["a"]]), [["a"]], "conditional_softmax", "one path to a leaf"),
    (Hierarchy.from_paths([["a", "b", "c"]]), [["a", "b", "c"]], "conditional_softmax", "one path to a leaf"),
    (TREE, [MUSIC, ["Arts"]], "conditional_softmax stop", "has one path, and 1 of 2 end at an inner node"),
    (TREE, [["Science"], ["Arts"]], "conditional_softmax stop", "2 of 2 end at an inner node"),
    (TREE, [*[OPTICS] * 1200, ["Science", "Physics"]], "conditional_softmax stop", "1 of 1,201 end at an inner node"),
    (TREE, [[MUSIC, OPTICS], MUSIC], "bce", "1 of 2 training documents have several paths"),
    (TREE, [[MUSIC, ["Arts", "Film"]], MUSIC], "bce", "1 of 2 training documents have several paths"),
    (TREE, [[MUSIC, ["Science"]], ["Arts"]], "bce", "1 of 2 training documents have several paths"),
    (TREE, [*[OPTICS] * 1200, [MUSIC, OPTICS]], "bce", "1 of 1,201 training documents have several paths"),
    (FLAT, [["a", "b"], ["c"]], "bce", "1 of 2 training documents have several paths"),
    (DAG, [["Science", "Physics"]], "bce", "the hierarchy has labels with several parents"),
    (DAG, [["Arts", "Acoustics"]], "bce", "the hierarchy has labels with several parents"),
    (DAG, [["Arts"], ["Science"]], "bce", "the hierarchy has labels with several parents"),
]


@pytest.mark.parametrize(("hierarchy", "labels", "expected", "reason"), SUITABLE)
def test_the_objective_that_suits_the_labels(hierarchy, labels, expected, reason):
    targets = hierarchy.encode(labels)
    config, sentence = choose_loss(loss_config("auto", prior_smoothing=1.0), hierarchy, targets)
    name, stop = {"bce": "bce_prior_bias"}.get(expected, expected.split()[0]), expected.endswith("stop")
    settings = {"prior_smoothing": 1.0} if name == "bce_prior_bias" else {"stop": stop}
    assert config == loss_config(name, **settings), "as if it had been given by name"
    assert sentence.startswith(f"loss: {name}{' with a stop event' if stop else ''}, because ")
    assert reason in sentence
    make_objective(config, hierarchy, targets).check_targets(targets)
    kind = {"bce": BCE, "conditional_softmax": ConditionalSoftmax, "conditional_softmax stop": StopEvent}[expected]
    features = torch.eye(2).repeat(len(targets), 1)[: len(targets)].numpy()
    assert type(HierarchicalClassifier(hierarchy).fit(features, targets.numpy()).objective_) is kind


def test_what_is_asked_for_besides_stays():
    config = loss_config("auto", stop=True, prior_smoothing=0.5, recursive_regularization=0.1)
    chosen, _ = choose_loss(config, TREE, TREE.encode([MUSIC]))
    assert chosen == loss_config("conditional_softmax", stop=True, recursive_regularization=0.1)
    several = TREE.encode([[MUSIC, OPTICS]])
    with pytest.raises(InputError, match="a stop event is for the softmax objectives; bce_prior_bias takes paths that end any"):
        choose_loss(config, TREE, several)
    chosen, _ = choose_loss(loss_config("auto", prior_smoothing=0.5), TREE, several)
    assert chosen == loss_config("bce_prior_bias", prior_smoothing=0.5)
    with pytest.raises(InputError, match=r"loss.name must be one of bce, .*, or auto in htc-train, not 'auto'"):
        make_objective(LossConfig(name="auto"), TREE, TREE.encode([MUSIC]))


@pytest.mark.parametrize("place", ["loss", "probabilities"])
@pytest.mark.parametrize("inside", ["objective", "hierarchy"])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_who_predicts_first_can_train_afterwards(name, stop, inside, place, make_tree):
    """What a hierarchy keeps of itself may be computed in inference mode, and takes part in gradients later."""
    if stop and name not in SOFTMAX_OBJECTIVES:
        pytest.skip("it has no stop event")
    saved = make_tree(0)
    with torch.inference_mode(inside == "hierarchy"):
        hierarchy = Hierarchy(saved.names, saved.parents)
    objective = objective_by_name(name, hierarchy, **({"stop": True} if stop else {}))
    logits = torch.randn(2, objective.num_outputs)
    with torch.inference_mode():
        objective.probabilities(logits)
    parameters = logits.clone().requires_grad_()
    leaf = hierarchy.leaves[:2]
    targets = hierarchy.close(torch.zeros(2, hierarchy.num_nodes, dtype=torch.bool).scatter(1, leaf[:, None], True))
    value = objective.loss(parameters, targets) if place == "loss" else objective.probabilities(parameters).square().sum()
    value.backward()
    assert parameters.grad.isfinite().all()
