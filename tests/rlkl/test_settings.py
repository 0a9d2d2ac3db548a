"""Settings name what the functions do, and two that do the same are one."""

import pytest

from rlkl import certainty, kl, penalty, settings, weighting
from rlkl.algorithms import by_name
from rlkl.settings import CHOICES

from . import recipes


def test_names_are_those_of_the_functions():
    assert list(settings.CERTAINTIES) == list(certainty.CERTAINTIES)
    assert set(settings.ESTIMATORS) - {"exact"} <= set(kl.SAMPLED)
    assert set(weighting.WEIGHTINGS) <= set(settings.WEIGHTINGS)
    assert CHOICES["share_count"] == tuple(penalty.COUNTS)
    assert list(settings.ALGORITHMS) == list(by_name.ALGORITHMS)
    for name, algorithm in by_name.ALGORITHMS.items():
        assert recipes.algorithm(name).has_critic == (algorithm.group_advantages is None)
        assert recipes.algorithm(name).clips == (algorithm.policy_loss is not by_name.ALGORITHMS["a2c"].policy_loss)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"weighting": "prioritized", "beta": 0.0}, {"weighting": "standard"}),
        ({"weighting": "matched_mean", "beta": 0.0}, {"weighting": "standard"}),
        ({"weighting": "shuffled", "beta": 0.0, "certainty": "min_entropy"}, {"weighting": "standard"}),
        ({"weighting": "certain_tokens", "share": 0.0, "mean_over": "penalized"}, {"weighting": "standard"}),
        ({"weighting": "certain_tokens", "share": 1.0}, {"weighting": "none"}),
        ({"weighting": "kl_cov", "share": 0.0}, {"weighting": "none"}),
        ({"weighting": "standard", "alpha": 0.0, "estimator": "k3"}, {"weighting": "none"}),
        ({"weighting": "prioritized", "alpha": 0.0, "placement": "reward"}, {"weighting": "none"}),
        (
            {"weighting": "certain_tokens", "certainty_of": "policy", "certainty": "min_entropy", "certainty_temperature": 2.0},
            {"weighting": "certain_tokens", "certainty_of": "policy"},
        ),
        (
            {"weighting": "certain_tokens", "certainty_of": "current", "certainty_temperature": 2.0},
            {"weighting": "certain_tokens", "certainty_of": "current"},
        ),
        (
            {"weighting": "certain_tokens", "share": 0.0, "certainty_of": "current", "entropy_window": 4},
            {"weighting": "standard"},
        ),
        ({"weighting": "standard", "alpha": 0.0, "placement": "zero_sum", "estimator": "exact"}, {"weighting": "none"}),
        ({"weighting": "prioritized", "beta": 0.0, "off_clipped": True}, {"weighting": "standard", "off_clipped": True}),
    ],
)
def test_penalties_with_the_same_effect_are_one(one, other):
    assert recipes.penalty(**one).canonical().effective() == recipes.penalty(**other).canonical().effective()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"weighting": "prioritized"}, {"weighting": "standard"}),
        ({"weighting": "prioritized", "beta": 1.0}, {"weighting": "prioritized", "beta": 2.0}),
        ({"weighting": "kl_cov", "share": 0.0, "share_count": "at_least_one"}, {"weighting": "none"}),
        ({"weighting": "certain_tokens", "certainty": "min_entropy"}, {"weighting": "certain_tokens"}),
        ({"weighting": "prioritized", "placement": "reward"}, {"weighting": "prioritized"}),
        ({"weighting": "standard", "off_clipped": True}, {"weighting": "standard"}),
        ({"weighting": "standard", "off_constant_groups": True}, {"weighting": "standard"}),
        (
            {"weighting": "certain_tokens", "share": 0.0, "mean_over": "penalized", "off_constant_groups": True},
            {"weighting": "standard", "off_constant_groups": True},
        ),
        (
            {"weighting": "certain_tokens", "certainty_of": "current"},
            {"weighting": "certain_tokens", "certainty_of": "policy"},
        ),
        (
            {"weighting": "certain_tokens", "certainty_of": "policy", "entropy_window": 4},
            {"weighting": "certain_tokens", "certainty_of": "policy"},
        ),
    ],
)
def test_others_are_not(one, other):
    assert recipes.penalty(**one).canonical().effective() != recipes.penalty(**other).canonical().effective()


def test_how_much_goes_through_a_model_at_a_time_has_no_effect():
    assert recipes.algorithm(micro_batch_size=1).effective() == recipes.algorithm().effective()
    assert recipes.algorithm("ppo", clip_range_uncertain=0.2).effective() == recipes.algorithm("ppo").effective()
    assert recipes.algorithm(iterations=3).effective() != recipes.algorithm().effective()


ALIKE = [
    ("grpo", {"clip_range_high": 0.2}, {}),
    ("grpo", {"resamples": 3}, {}),
    ("grpo", {"constant_groups": "left_out", "resamples": 3}, {"constant_groups": "left_out"}),
    ("grpo", {"clip_range_high": 0.2, "clip_range_uncertain": 0.2}, {}),
]
OTHERS = [
    ("grpo", {"clip_range_high": 0.28}, {}),
    ("grpo", {"constant_groups": "left_out"}, {}),
    ("grpo", {"constant_groups": "resampled", "resamples": 3}, {"constant_groups": "resampled", "resamples": 4}),
    ("grpo", {"clip_range_high": 0.28, "clip_range_uncertain": 0.2}, {"clip_range_high": 0.28}),
]


@pytest.mark.parametrize(("name", "one", "other"), ALIKE)
def test_algorithms_with_the_same_effect_are_one(name, one, other):
    assert recipes.algorithm(name, **one).effective() == recipes.algorithm(name, **other).effective()


@pytest.mark.parametrize(("name", "one", "other"), OTHERS)
def test_other_algorithms_are_not(name, one, other):
    assert recipes.algorithm(name, **one).effective() != recipes.algorithm(name, **other).effective()


def test_settings_without_effect_that_came_later_are_in_no_name():
    """So a run that was made before they came is found again."""
    for name in ("a2c", "ppo", "grpo", "rloo"):
        assert not set(recipes.algorithm(name).effective()) & set(settings.LATER)
    for weighting_name in settings.WEIGHTINGS:
        assert not set(recipes.penalty(weighting_name).effective()) & set(settings.LATER)
