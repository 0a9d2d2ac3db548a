"""Weights with the same meaning for every vocabulary: chosen by the share of tokens that they relax.

The exponent beta of J ** beta (J: the reference's certainty) says little by itself: certainty depends on the vocabulary and the
texts. At beta 150 the mean weight is 0.95 on scratchpads with 41 characters, and 0.07 on a language model's text. A share is
clear: "a share q of the tokens has a weight below one half". `beta_for_share` gives the exponent for a share, on tokens of the
reference's own completions. They are measured before training, so that the exponent is constant during the run. `rank_weights`
needs no exponent: it uses the rank of a certainty among those tokens. So certainties that order tokens alike give equal
weights.

Shapes: (B, T) tokens of a batch of completions, (N,) measured tokens.
"""

import math

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32, expectation
from rlkl_htc_common.errors import InputError

WIDEST = 100.0  # the largest temperature that is looked at; its inverse is the smallest
BISECTIONS = 40


def share_below_half(weights: Tensor, mask: Tensor) -> float:
    """The share of tokens with a weight below one half.

    Args:
        weights: (B, T)
        mask: (B, T) bool, the tokens that count; at least one.
    """
    return float((weights[mask.bool()] < 0.5).float().mean())


def beta_for_share(certainty: Tensor, mask: Tensor, share: float) -> float:
    """The exponent beta for which a share of the tokens has a weight certainty ** beta below one half.

    The share is met up to rounding to whole tokens, except for ties at its border; `share_below_half` gives the actual share.

    Args:
        certainty: (B, T) of the reference, from 0 to 1.
        mask: (B, T) bool, the tokens that count.
        share: of the tokens, above 0 and below 1.

    Raises:
        InputError: if there are too few tokens for the share, or no exponent gives it.
    """
    ordered = _measured(certainty, mask)
    below = _tokens_below(len(ordered), share)
    middle = float((ordered[below - 1] + ordered[below]) / 2)
    if middle >= 1 or middle <= 0:
        tie = "completely certain (certainty 1)" if middle >= 1 else "not certain at all (certainty 0)"
        found = float((ordered == round(middle)).double().mean())
        raise InputError(
            f"No exponent gives a share {share:g} of the tokens a weight below one half: the reference is {tie} of "
            f"{found:.1%} of them. Ask for {'a smaller' if middle >= 1 else 'a larger'} share, or measure other completions."
        )
    return math.log(0.5) / math.log(middle)


def ranks(certainty: Tensor, measured: Tensor) -> Tensor:
    """The share of measured tokens with the same or a lower certainty.

    Args:
        certainty: (...) of the reference.
        measured: (N,) certainties in ascending order, from `sorted_certainties`.

    Returns:
        (...) from 0 to 1, no gradient.
    """
    places = torch.searchsorted(measured, certainty.detach().to(measured.dtype).contiguous(), right=True)
    return (places / len(measured)).to(at_least_float32(certainty).dtype)


def rank_weights(certainty: Tensor, measured: Tensor, share: float) -> Tensor:
    """Weights from 0 to 1 that grow with the rank of the certainty; the lowest `share` of tokens is below one half.

    The weight is rank ** (log(1/2) / log(share)): 1 at the highest rank, one half at rank = share.

    Args:
        certainty: (...) of the reference.
        measured: (N,) certainties in ascending order.
        share: of the tokens, above 0 and below 1.

    Raises:
        InputError: if the share is out of range.
    """
    return ranks(certainty, measured).pow(math.log(0.5) / math.log(_checked(share)))


def sorted_certainties(certainty: Tensor, mask: Tensor) -> Tensor:
    """The certainties of the tokens that count, (N,), in ascending order, for `ranks`.

    Raises:
        InputError: if no token counts.
    """
    ordered = certainty.detach()[mask.bool()].sort().values
    if not len(ordered):
        raise InputError("No token counts, so that there is no certainty to measure.")
    return ordered


def fitted_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature at which texts are most probable: above 1 for a model that is too certain of them.

    Its certainty at this temperature is `penalty.certainty_temperature`, or `certainty_temperature` of the trainer for TRL.

    Args:
        logits: (n, V) of the next token, on text that the model was not trained on.
        targets: (n,) the tokens that follow.

    Raises:
        InputError: for no tokens; or if no temperature from 1/100 to 100 is best, as on text that is always the likeliest.

    Source: Guo et al., 2017, arXiv 1706.04599, section 4.2.
    """
    if not len(targets):
        raise InputError("There are no tokens to fit a temperature on.")
    logits = logits.detach().double()

    def slope(inverse: float) -> float:
        """Of the mean log-probability by the inverse temperature; it falls."""
        expected = expectation((logits * inverse).log_softmax(-1), logits)
        return float((logits.gather(-1, targets[:, None]).squeeze(-1) - expected).mean())

    low, high = 1 / WIDEST, WIDEST
    if slope(low) <= 0 or slope(high) >= 0:
        raise InputError(
            f"No temperature from {1 / WIDEST:g} to {WIDEST:g} fits: the texts are {'always' if slope(high) >= 0 else 'never'} "
            "what the model finds likeliest. Take other texts."
        )
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 1 / middle


def _measured(certainty: Tensor, mask: Tensor) -> Tensor:
    ordered = sorted_certainties(certainty, mask).cpu().double()
    if not bool(((ordered >= 0) & (ordered <= 1)).all()):
        raise InputError("Certainties must be from 0 to 1, but some are not, or not a number.")
    return ordered


def _checked(share: float) -> float:
    if not 0 < share < 1:
        raise InputError(f"A share of tokens must be above 0 and below 1, not {share}.")
    return share


def _tokens_below(tokens: int, share: float) -> int:
    below = round(_checked(share) * tokens)
    if below in (0, tokens):
        raise InputError(
            f"A share {share:g} of {tokens} tokens is {'not one of them' if not below else 'all of them'}: measure more tokens."
        )
    return below
