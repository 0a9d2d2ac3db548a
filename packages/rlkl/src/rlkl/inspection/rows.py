"""What was found, as plain containers: for JSON lines, a page and a terminal.

A row is one completion of one model: `row` its number, `where` its prompt comes from, `model`, `role` (`model` or `before`),
`prompt`, `completion`, `success` (null without a verifier) and `tokens`. A token has `token` (its text), `id`, `certainty`,
`entropy` in nats, `log_prob`, `probability`, `rank` (1: the likeliest) and `alternatives`; with a reference `kl` in nats,
`reference_certainty` and, if there is an exponent, `weight`; where it was measured `worth`. Numbers that are not finite are
null.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rlkl.inspection.models import CausalModel
from rlkl.inspection.pieces import pieces, shown, text_of
from rlkl.inspection.scores import Scores
from rlkl.inspection.texts import Passage
from rlkl.inspection.worth import Place, Worth
from rlkl.weighting import prioritized

Row = dict[str, Any]


def make_row(model: CausalModel, role: str, number: int, passage: Passage, scores: Scores, exponent: float | None) -> Row:
    """A completion as a row, without its success. Args: exponent: of the weights; None for none."""
    texts = pieces(model.tokenizer, passage.completion_tokens)
    return {
        "row": number,
        "where": passage.where,
        "model": model.name,
        "role": role,
        "prompt": passage.prompt,
        "completion": text_of(model.tokenizer, passage.completion_tokens),
        "success": None,
        "tokens": [
            {"token": piece.text, **({"part_of": piece.part_of} if piece.part_of else {}), "id": token, **found}
            for piece, token, found in zip(texts, passage.completion_tokens, _measured(model, scores, exponent), strict=True)
        ],
    }


def _measured(model: CausalModel, scores: Scores, exponent: float | None) -> Iterator[dict[str, Any]]:
    """What was measured of each token."""
    columns = {
        "certainty": scores.certainty,
        "entropy": scores.entropy,
        "log_prob": scores.log_prob,
        "probability": scores.log_prob.exp(),
    }
    of_reference = {"kl": scores.kl, "reference_certainty": scores.reference_certainty}
    if bool(scores.reference_certainty.isnan().all()):
        of_reference = {}
    elif exponent is not None:
        counts = torch.ones_like(scores.certainty, dtype=torch.bool)
        of_reference["weight"] = prioritized(scores.reference_certainty, counts, exponent)
    values = {name: column.tolist() for name, column in (columns | of_reference).items()}
    others = zip(scores.alternatives.tolist(), scores.alternative_log_probs.tolist(), strict=True)
    for place, (rank, (tokens, log_probs)) in enumerate(zip(scores.rank.tolist(), others, strict=True)):
        own = {name: number(values[name][place]) for name in columns}
        likeliest = [
            {"token": shown(model.tokenizer, other), "id": other, "probability": number(math.exp(log_prob))}
            for other, log_prob in zip(tokens, log_probs, strict=True)
        ]
        yield own | {"rank": rank, "alternatives": likeliest} | {name: number(values[name][place]) for name in of_reference}


def number(value: float) -> float | None:
    """Six digits of a number; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def add_worths(model: CausalModel, rows: Sequence[Row], places: Sequence[Place], worths: Sequence[Worth | None]) -> None:
    """Give tokens what they are worth. Args: rows: of the model, by their numbers."""
    for place, worth in zip(places, worths, strict=True):
        if worth is not None:
            rows[place.row]["tokens"][place.position]["worth"] = {
                "alternative": shown(model.tokenizer, worth.alternative),
                "after_token": number(worth.after_token),
                "after_alternative": number(worth.after_alternative),
                "worth": number(worth.worth),
            }


def means(rows: Sequence[Row]) -> dict[str, float | int]:
    """Of all tokens of some rows their number, mean certainty, entropy, KL and weight, and the share of weights below one half;
    of the rows the mean success. What was not measured is left out.
    """
    tokens = [token for row in rows for token in row["tokens"]]
    found: dict[str, float | int] = {"completions": len(rows), "tokens": len(tokens)}
    for name in ("certainty", "entropy", "kl", "weight"):
        found |= _mean(name, [token.get(name) for token in tokens])
    weights = [token["weight"] for token in tokens if token.get("weight") is not None]
    if weights:
        found["share_below_half"] = sum(weight < 0.5 for weight in weights) / len(weights)
    return found | _mean("success", [row["success"] for row in rows])


def _mean(name: str, values: Sequence[float | None]) -> dict[str, float | int]:
    known = [value for value in values if value is not None]
    return {name: sum(known) / len(known)} if known else {}
