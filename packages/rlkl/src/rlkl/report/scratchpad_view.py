"""A completion, each character coloured by how certain the model was of it: HTML, and for a terminal (figures 1 and 5)."""

from html import escape

from rlkl.analysis.certainty_gaps import Scratchpad

UNSURE = (213, 94, 0)  # red-orange, in the palette that colour-blind readers can tell apart


def strength(certainty: float) -> float:
    """How strong the colour is, from 0 (certain) to 1. The square root makes small doubts visible."""
    return max(0.0, 1.0 - certainty) ** 0.5


def to_html(scratchpad: Scratchpad) -> str:
    """A `<pre>` element: colour for doubt, a box around critical tokens, a wavy line under the first wrong character.

    Args:
        scratchpad: as `certainty_gaps.scratchpads` gives it. A critical token's place is that of the right completion, so none
            is marked after the first wrong character.
    """
    first = _first_error(scratchpad)
    critical = set(scratchpad["critical"])
    parts = [escape(scratchpad["prompt"])]
    for position, (character, certainty) in enumerate(zip(scratchpad["text"], scratchpad["certainty"], strict=True)):
        style = (
            f"background:rgba({','.join(map(str, UNSURE))},{strength(certainty):.2f})" if strength(certainty) >= 0.01 else ""
        )
        if position in critical and position <= first:
            style += ";outline:1px solid currentColor"
        if position == first:
            style += ";text-decoration:underline wavy"
        shown = "↵\n" if character == "\n" and style else escape(character)
        parts.append(f'<span style="{style}" title="certainty {certainty:.4f}">{shown}</span>' if style else shown)
    return f'<pre style="overflow-x:auto;line-height:1.7">{"".join(parts)}</pre>'


def to_terminal(scratchpad: Scratchpad, color: bool = True) -> str:
    """The same with ANSI colours; the first wrong character is underlined.

    Args:
        color: False gives the plain text.

    What is in the scratchpad is escaped (`printable`), so that the colours are all that a terminal acts on.
    """
    from rlkl_htc_common.terminal import printable  # here, for the library loads without common

    if not color:
        return printable(scratchpad["prompt"] + scratchpad["text"])
    first = _first_error(scratchpad)
    parts = [printable(scratchpad["prompt"])]
    for position, (character, certainty) in enumerate(zip(scratchpad["text"], scratchpad["certainty"], strict=True)):
        share = strength(certainty)
        codes = []
        if share >= 0.01:
            red, green, blue = (round(255 + (part - 255) * share) for part in UNSURE)
            codes.append(f"48;2;{red};{green};{blue};30")
        if position == first:
            codes.append("4;1")
        shown = "↵\n" if character == "\n" and codes else printable(character)
        parts.append(f"\x1b[{';'.join(codes)}m{shown}\x1b[0m" if codes else shown)
    return "".join(parts)


def _first_error(scratchpad: Scratchpad) -> int:
    found = scratchpad["first_error"]
    return len(scratchpad["text"]) if found is None else found
