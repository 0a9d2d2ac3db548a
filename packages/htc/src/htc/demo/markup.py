"""What the page shows, as HTML. Texts and names of labels are data: each is escaped."""

from collections.abc import Sequence

from markupsafe import Markup, escape
from torch import Tensor

from htc.demo.answers import Answer, Way
from htc.demo.branches import Branch, Group, branches, cells
from htc.labels.hierarchy import Hierarchy
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.predictor import LabelPath
from htc.report.icicle import color_of, draw
from rlkl_htc_common.terminal import printable

LONGEST = 160  # characters of a text that a table shows
NO_LABEL = "no label"
FIGURE = (
    "One row for each level: a label is as wide and as bright as it is probable, the most probable first; those of the answer "
    "are framed."
)


def shown(text: str) -> Markup:
    """A text of someone else's as HTML, on one line."""
    return escape(printable(text, keep=""))


def lit_figure(hierarchy: Hierarchy, probabilities: Tensor, answer: Answer) -> str:
    """The answer in a sentence, and the hierarchy as a figure. Args: probabilities (N,)."""
    sentence = Markup('<p class="answer" role="status"><span class="soft">{}:</span> {}</p>').format(
        answer.way.title, paths_as_text(answer.paths)
    )
    drawn = cells(hierarchy, probabilities, answer.labels)
    figure = draw(drawn, "The hierarchy by probability", FIGURE, "probability") if drawn else ""
    return f'<div class="htc">{sentence}{figure}</div>'


def lit_list(hierarchy: Hierarchy, probabilities: Tensor, answer: Answer) -> str:
    """What matters of the hierarchy as nested lists, with the probabilities. Args: probabilities (N,)."""
    listed = tree(branches(hierarchy, probabilities, answer.labels))
    return f'<div class="htc"><h2>Labels and probabilities</h2>{listed}</div>'


def tree(group: Group) -> str:
    """A part of the hierarchy as nested lists."""
    more = f'<li class="more">{_more(group)}</li>' if group.more else ""
    return f'<ul class="labels">{"".join(map(_item, group.shown))}{more}</ul>'


def _item(branch: Branch) -> str:
    width = 100 * min(1.0, max(0.0, branch.probability))
    filled = f'<span style="width:{width:.1f}%;background:{color_of(width / 100)}"></span>'
    mark = ' <span class="mark">answer</span>' if branch.chosen else ""
    again = ' <span class="soft">(below another parent, too: see there)</span>' if branch.again else ""
    name = f'<span class="name">{shown(branch.name)}{mark}{again}</span>'
    line = f'{name} {percent(branch.probability)}<span class="bar" aria-hidden="true">{filled}</span>'
    below = tree(branch.below) if branch.below.shown or branch.below.more else ""
    return f'<li{" class=chosen" if branch.chosen else ""}><div class="line">{line}</div>{below}</li>'


def percent(probability: float) -> Markup:
    """A probability as a percentage."""
    said = f"{probability:.1%}" if not 0 < probability < 0.0005 else "< 0.1%"
    return Markup('<span class="percent">{}</span>').format(said)


def _more(group: Group) -> str:
    most = "below 0.1%" if group.most < 0.001 else f"{'' if group.more == 1 else 'each at most '}{group.most:.1%}"
    return f"{group.more:,} {'more' if group.shown else 'below it'}, {most}"


def rules_table(answers: Sequence[Answer]) -> str:
    """The answers of several ways side by side: a row for each different one, the model's own first."""
    own = answers[0]
    groups: dict[tuple[bool, ...], list[Answer]] = {}
    for answer in answers:
        groups.setdefault(tuple(answer.labels.tolist()), []).append(answer)
    rows = []
    for group in groups.values():
        ways = "".join(f"<li>{_named(each.way)}</li>" for each in group)
        first = group[0]
        state = "this model's answer" if first is own else compared(first.labels, own.labels)
        rows.append(f"<tr><td>{paths_as_text(first.paths)}</td><td>{state}</td><td><ul>{ways}</ul></td></tr>")
    same = len(next(iter(groups.values()))) - 1
    caption = f"{same} of {len(answers) - 1} other ways to answer give the labels of {own.way.title}."
    table = _table("rules", caption, "<tr><th>labels</th><th></th><th>given by</th></tr>", rows)
    return f'<div class="htc"><h2>The rules compared</h2>{table}</div>'


def _named(way: Way) -> str:
    return f"{shown(way.title)} <code>{shown(way.decoder)}</code>" if way.decoder else shown(way.title)


def compared(labels: Tensor, own: Tensor) -> str:
    """What another answer is, seen from the model's own. Args: both (N,) bool, and different."""
    if not bool((labels & ~own).any()):
        return "ends higher up" if bool(labels.any()) else "abstains"
    return "more labels" if not bool((own & ~labels).any()) else "other labels"


def rows_table(rows: Sequence[tuple[str, list[LabelPath]]], caption: str) -> str:
    """Texts with their labels. Args: rows: some of a table, for a look at it."""
    cut = ((text if len(text) <= LONGEST else text[:LONGEST] + " …", paths) for text, paths in rows)
    drawn = [f"<tr><td>{shown(text)}</td><td>{paths_as_text(paths)}</td></tr>" for text, paths in cut]
    return f'<div class="htc">{_table("rows", caption, "<tr><th>text</th><th>labels</th></tr>", drawn)}</div>'


def _table(kind: str, caption: str, head: str, rows: Sequence[str]) -> str:
    inside = f"<caption>{shown(caption)}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<table class="{kind}">{inside}</table>'


def paths_as_text(paths: Sequence[LabelPath]) -> Markup:
    """Paths with the probabilities of their ends, one a line."""
    if not paths:
        return Markup('<span class="soft">{}</span>').format(NO_LABEL)
    each = (shown(PATH_SEPARATOR.join(step.label for step in path)) + " " + percent(path[-1].probability) for path in paths)
    return Markup("<br>").join(each)


def problem(sentence: str) -> str:
    """What went wrong, in a sentence."""
    return f'<div class="htc"><p class="problem" role="alert">{shown(sentence)}</p></div>'


def note(sentence: str) -> str:
    """A sentence in the place of a result."""
    return f'<div class="htc"><p class="soft">{shown(sentence)}</p></div>'
