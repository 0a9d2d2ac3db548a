"""What a model says of each token: by definition, in parts, in batches, and with a reference."""

import math

import pytest
import torch

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.inspection import scores as module
from rlkl.inspection.scores import ESTIMATORS, Measure, describe, in_parts, score
from rlkl.inspection.texts import Passage
from rlkl_htc_common.errors import InputError

from .models import causal_model

PASSAGES = [
    Passage("a", "", [3, 4, 5], [7, 8, 9, 10]),
    Passage("b", "", [3], [200, 100]),
    Passage("c", "", list(range(1, 20)), [5]),
    Passage("d", "", [9, 9], list(range(40, 80))),
]


@torch.no_grad()
def logits_of(model, passage):
    """(N, V) by one pass over one text."""
    tokens = torch.tensor([passage.prompt_tokens + passage.completion_tokens])
    return model.model(input_ids=tokens).logits[0, len(passage.prompt_tokens) - 1 : -1]


@pytest.mark.parametrize("certainty", CERTAINTIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_are_what_their_definitions_say(kind, certainty, estimator):
    model, reference = causal_model(kind), causal_model(kind, scale=2.0)
    measure = Measure(certainty, 0.7, estimator, alternatives=3)
    found = score(model, PASSAGES, measure, reference=reference, batch_size=3)
    for passage, of_row in zip(PASSAGES, found, strict=True):
        logits, others = logits_of(model, passage), logits_of(reference, passage)
        log_probs, targets = logits.log_softmax(-1), torch.tensor(passage.completion_tokens)
        own = log_probs.gather(1, targets[:, None])[:, 0]
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(of_row.log_prob, own, **close)
        torch.testing.assert_close(of_row.entropy, -(log_probs.exp() * log_probs).sum(-1), **close)
        torch.testing.assert_close(of_row.certainty, CERTAINTIES[certainty](logits, 0.7), **close)
        torch.testing.assert_close(of_row.reference_certainty, CERTAINTIES[certainty](others, 0.7), **close)
        assert of_row.rank.tolist() == [(row > row[token]).sum().item() + 1 for row, token in zip(logits, targets, strict=True)]
        assert of_row.alternatives.tolist() == logits.topk(3).indices.tolist()
        other = others.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        expected = kl.exact(logits, others) if estimator == "exact" else kl.SAMPLED[estimator](own, other)
        torch.testing.assert_close(of_row.kl, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 258, 258 * 7, 2**25])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_parts_give_the_same_and_hold_no_more_logits_than_they_may(kind, at_once, monkeypatch):
    model, reference = causal_model(kind), causal_model(kind, scale=2.0)
    whole = score(model, PASSAGES, Measure(), reference=reference, batch_size=1)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", at_once)
    seen = []
    monkeypatch.setattr(module, "describe", lambda logits, *rest: seen.append(logits.numel()) or describe(logits, *rest))
    parts = score(model, PASSAGES, Measure(), reference=reference)
    assert max(seen) <= max(at_once, 258)
    for one, other in zip(whole, parts, strict=True):
        assert one.rank.tolist() == other.rank.tolist()
        for name in ("certainty", "entropy", "log_prob", "kl", "reference_certainty"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-4)


def test_no_pass_gives_more_logits_than_are_wanted():
    model, seen = causal_model(), []
    model.model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.shape))
    score(model, [Passage("", "", [1] * 100, [2, 3])], Measure())
    assert seen == [(1, 2, 258)]


def test_a_model_that_can_skip_no_logits_is_read_in_parts_too(monkeypatch):
    model = causal_model()
    whole = score(model, PASSAGES, Measure())
    monkeypatch.setattr(module, "_can_skip_logits", lambda model: False)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 258 * 5)
    for one, other in zip(whole, score(model, PASSAGES, Measure()), strict=True):
        torch.testing.assert_close(one.entropy, other.entropy, rtol=1e-3, atol=1e-4)


def test_a_model_without_keys_and_values_is_refused_where_they_are_needed(monkeypatch):
    model = causal_model()
    forward = model.model.forward

    def forgetful(*args, logits_to_keep=0, **more):
        output = forward(*args, logits_to_keep=logits_to_keep, **more)
        output.past_key_values = None
        return output

    monkeypatch.setattr(model.model, "forward", forgetful)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 258)
    with torch.no_grad(), pytest.raises(InputError, match="keeps no keys and values"):
        list(in_parts([model], torch.ones(1, 9, dtype=torch.long), 2))


def test_the_reference_itself_has_a_kl_of_0_and_no_reference_none():
    model = causal_model()
    (alone, *_), (with_itself, *_) = score(model, PASSAGES, Measure()), score(model, PASSAGES, Measure(), reference=model)
    assert bool(alone.kl.isnan().all())
    assert float(with_itself.kl.abs().max()) == 0
    assert torch.equal(with_itself.reference_certainty, with_itself.certainty)


def test_tokens_without_probability_are_no_reason_to_fail():
    logits = torch.tensor([[[0.0, -math.inf, 1.0], [0.0, -math.inf, -math.inf]]])
    found = describe(logits, torch.tensor([[1, 0]]), Measure(alternatives=5))
    assert found.log_prob.tolist() == [[-math.inf, 0.0]]
    assert found.rank.tolist() == [[3, 1]]
    assert float(found.entropy[0, 1]) == 0
    assert float(found.certainty[0, 1]) == 1


def test_weights_that_give_nan_are_told():
    model = causal_model()
    with torch.no_grad():
        model.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(InputError, match="tiny gives NaN"):
        score(model, PASSAGES, Measure())


def test_progress_is_told():
    done = []
    score(causal_model(), PASSAGES, Measure(), batch_size=3, advance=done.append)
    assert sum(done) == len(PASSAGES)
    assert max(done) <= 3
