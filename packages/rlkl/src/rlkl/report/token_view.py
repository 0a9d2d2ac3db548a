"""Completions, each token coloured by how certain the model was of it: one HTML page, and for a terminal.

The rows are those of `rlkl.inspection.rows`.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from rlkl.report.scratchpad_view import UNSURE, strength
from rlkl_htc_common.runs.directory import write_atomically
from rlkl_htc_common.terminal import printable

Row = Mapping[str, Any]
Tokens = Sequence[Mapping[str, Any]]

UNSURE_SHARE = 0.1  # of all tokens: those with the lowest certainties, which the keys j and k lead to
CERTAIN = 0.999  # no such token is called unsure
MOST_ROWS = 200  # on a page
BLANKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})
NUMBERS = {  # of a token, with their titles
    "certainty": "certainty",
    "entropy": "entropy (nats)",
    "probability": "probability",
    "rank": "rank",
    "kl": "KL (nats)",
    "reference_certainty": "reference's certainty",
    "weight": "weight",
}
COLOURS = {"certainty": "uncertainty", "surprise": "1 − probability", "weight": "1 − weight", "kl": "KL"}


def write_token_page(
    file: Path, title: str, lead: str, rows: Sequence[Row], ranking: Sequence[tuple[int, int]], facts: Sequence[tuple[str, str]]
) -> None:
    """Write a page on which the tokens of completions can be looked at one by one: nothing is loaded from elsewhere.

    Args:
        file: the HTML file.
        title, lead: the heading, and the sentence under it.
        rows: of the model, in the order of their numbers, and those of the model before, if there is one.
        ranking: (row, position) of the least certain tokens of the model, the first of them first.
        facts: what it rests on, as name and value.
    """
    template = files("rlkl.report").joinpath("templates/token_view.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    shown = [row for row in rows if row["row"] < MOST_ROWS]
    limit = unsure_below(shown)
    blocks = [[_block(row, limit) for row in shown if row["row"] == number] for number in sorted({row["row"] for row in shown})]
    of_model = {row["row"]: row for row in shown if row["role"] == "model"}
    tokens = [token for row in shown for token in row["tokens"]]
    page = environment.from_string(template).render(
        title=title,
        lead=lead,
        blocks=blocks,
        left_out=len({row["row"] for row in rows}) - len(blocks),
        ranking=[_ranked(place, of_model[place[0]]) for place in ranking if place[0] in of_model],
        numbers={name: heading for name, heading in NUMBERS.items() if _any_has(tokens, name)},
        has_worth=any("worth" in token for token in tokens),
        colours={name: title for name, title in COLOURS.items() if name in _colours(tokens[0])} if tokens else {},
        unsure_share=f"{UNSURE_SHARE:.0%}",
        unsure="{}, {}, {}".format(*UNSURE),
        facts=facts,
        data=_data([token for block in blocks for row in block for token in row["tokens"]]),
    )
    write_atomically(file, page)


def _any_has(tokens: Tokens, name: str) -> bool:
    return any(name in token for token in tokens)


def unsure_below(rows: Sequence[Row]) -> float:
    """The certainty below which a token is called unsure: at most a share of all tokens is; of few, one."""
    values = sorted(token["certainty"] for row in rows for token in row["tokens"] if token["certainty"] is not None)
    number = max(1, round(UNSURE_SHARE * len(values)))
    return min(values[number], CERTAIN) if number < len(values) else CERTAIN


def finding(rows: Sequence[Row], ranking: Sequence[tuple[int, int]]) -> str:
    """In a sentence, how certain the model was of its tokens, and of which least; "" where no certainty is known.

    Args: rows: of the model; ranking: as for `write_token_page`.
    """
    known = [token["certainty"] for row in rows for token in row["tokens"] if token["certainty"] is not None]
    if not known:
        return ""
    middle, tenth = np.quantile(known, [0.5, 0.1]).tolist()
    said = f"Half of the {len(known):,} tokens have a certainty of {middle:.3f} or more, a tenth of {tenth:.3f} or less"
    by_number = {row["row"]: row for row in rows}
    if not ranking or ranking[0][0] not in by_number:
        return f"{said}. "
    number, position = ranking[0]
    token = by_number[number]["tokens"][position]
    lowest = f"{shown_number(token['certainty'])}, of {visible(token['token'])} in completion {number + 1}"
    return f"{said}; the lowest is {lowest}. "


def _shown(value: object) -> object:
    return printable(value) if type(value) is str else value


def _data(tokens: Tokens) -> str:
    """What the page says of each token, for its script. `<` and `&` are escaped, so that no text ends the element."""
    rows = [{"text": visible(token["token"]), "details": _details(token), "others": _others(token)} for token in tokens]
    text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")


def _details(token: Mapping[str, Any]) -> list[list[str]]:
    found = [[title, shown_number(token[name])] for name, title in NUMBERS.items() if name in token]
    if "part_of" in token:
        found.append(["a part of", visible(token["part_of"])])
    if "worth" in token:
        worth = token["worth"]
        after = f"{shown_number(worth['after_token'])} after it, {shown_number(worth['after_alternative'])} after"
        found.append(["success", f"{after} {visible(worth['alternative'])}"])
    return found


def _others(token: Mapping[str, Any]) -> list[list[str]]:
    return [[visible(other["token"]), shown_number(other["probability"])] for other in token["alternatives"]]


def _block(row: Row, limit: float) -> dict[str, Any]:
    """A row as the template takes it."""
    tokens = []
    for place, token in enumerate(row["tokens"]):
        text = token["token"]
        unsure = token["certainty"] is not None and token["certainty"] < limit
        tokens.append(
            {
                **token,
                "name": f"{row['role']}-{row['row']}-{place}",
                "shown": visible(text) if unsure and text.isspace() and "\n" not in text else text.replace("\n", "↵\n"),
                "unsure": unsure,
                "style": "".join(f"--{name}:{value:.2f};" for name, value in _colours(token).items()),
                "label": f"{visible(text)}, unsure: certainty {shown_number(token['certainty'])}",
            }
        )
    return {**row, "tokens": tokens, "success": None if row["success"] is None else shown_number(row["success"])}


def _colours(token: Mapping[str, Any]) -> dict[str, float]:
    """How strong each colour of a token is, from 0 to 1."""
    found = {"certainty": strength(_or(token["certainty"], 1.0)), "surprise": strength(_or(token["probability"], 0.0))}
    if token.get("weight") is not None:
        found["weight"] = 1.0 - token["weight"]
    if "kl" in token:
        found["kl"] = min(1.0, max(0.0, _or(token["kl"], 1.0))) ** 0.5  # 1 nat and more is the strongest
    return found


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _ranked(place: tuple[int, int], row: Row) -> dict[str, Any]:
    token = row["tokens"][place[1]]
    return {
        "name": f"model-{place[0]}-{place[1]}",
        "where": f"completion {place[0] + 1}, token {place[1] + 1}",
        "token": visible(token["token"]),
        "numbers": {name: shown_number(token[name]) for name in NUMBERS if name in token},
        "others": ", ".join(f"{text} {probability}" for text, probability in _others(token)),
        "worth": worth_text(token),
    }


def worth_text(token: Mapping[str, Any]) -> str:
    """What a token is worth in words; nothing where it was not measured."""
    if "worth" not in token:
        return ""
    worth = token["worth"]
    after = f"{shown_number(worth['after_token'])} against {shown_number(worth['after_alternative'])}"
    return f"{worth['worth']:+.3g} ({after} after {visible(worth['alternative'])})"


def shown_number(value: float | None) -> str:
    """A number for people; an endless one has none."""
    if value is None:
        return "not finite"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.1e}"


def visible(text: str) -> str:
    """A token with its blanks, so that they can be seen."""
    return printable(text.translate(BLANKS), keep="")


def to_terminal(row: Row, color: bool = True) -> str:
    """A completion with ANSI colours: the stronger, the less certain. What it says is escaped (`printable`).

    Args:
        color: False gives the plain text.
    """
    texts = [token["token"] for token in row["tokens"]]
    if not color:
        return printable(row["prompt"] + row["completion"])
    parts = [f"\x1b[2m{printable(row['prompt'])}\x1b[0m"]
    for text, token in zip(texts, row["tokens"], strict=True):
        share = strength(_or(token["certainty"], 1.0))
        if share < 0.1:  # as good as certain
            parts.append(printable(text))
            continue
        code = ";".join(str(round(255 + (part - 255) * share)) for part in UNSURE)
        parts.append(f"\x1b[48;2;{code};30m{printable(text.replace(chr(10), '↵'))}\x1b[0m" + "\n" * text.count("\n"))
    return "".join(parts)


def ranking_table(rows: Sequence[Row], ranking: Sequence[tuple[int, int]]) -> str:
    """The least certain tokens as a table for a terminal. Args: rows: of the model, by their numbers."""
    head = ["completion", "token", "", "certainty", "entropy", "probability", "rank"]
    with_reference = any("kl" in token for row in rows for token in row["tokens"][:1])
    names = ["certainty", "entropy", "probability", "rank", *(["kl", "weight"] if with_reference else [])]
    lines = [[*head, *(["KL", "weight"] if with_reference else []), "alternatives"]]
    for number, position in ranking:
        token = rows[number]["tokens"][position]
        values = ["-" if token.get(name) is None else shown_number(token[name]) for name in names]
        others = "  ".join(f"{text} {probability}" for text, probability in _others(token))
        worth = f"   worth {worth_text(token)}" if "worth" in token else ""
        lines.append([str(number + 1), str(position + 1), visible(token["token"]), *values, others + worth])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return "\n".join("  ".join([*map(_aligned, line[:-1], widths, range(len(widths))), line[-1]]) for line in lines)


def _aligned(cell: str, width: int, column: int) -> str:
    """A cell of the table; the third column is text."""
    return cell.ljust(width) if column == 2 else cell.rjust(width)
