"""Rows as `rlkl.inspection.rows` makes them, for tests of the page."""


def token(text, certainty=0.9, **more):
    """A token of a row."""
    return {
        "token": text,
        "id": 7,
        "certainty": certainty,
        "entropy": 0.5,
        "log_prob": -0.7,
        "probability": 0.5,
        "rank": 2,
        "alternatives": [{"token": " the", "id": 1, "probability": 0.25}, {"token": text, "id": 7, "probability": 0.5}],
        **more,
    }


def row(number=0, role="model", tokens=None, **more):
    """A completion of 40 tokens, by default, two of which are unsure."""
    if tokens is None:
        tokens = [token(f" w{place}", 0.3 + 0.1 * (place == 25) if place in (5, 25) else 0.99) for place in range(40)]
    return {
        "row": number,
        "where": f"in.jsonl:{number + 1}",
        "model": "tiny" if role == "model" else "older",
        "role": role,
        "prompt": "Once upon",
        "completion": "".join(each["token"] for each in tokens),
        "success": None,
        "tokens": tokens,
        **more,
    }


WITH_REFERENCE = {"kl": 0.25, "reference_certainty": 0.8, "weight": 0.4}
WORTH = {"alternative": " the", "after_token": 0.75, "after_alternative": 0.25, "worth": 0.5}
