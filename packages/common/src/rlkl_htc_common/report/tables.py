"""Tables that both packages' reports hold: methods by what they reach over seeds, and where reports come from."""

from collections.abc import Mapping, Sequence

from rlkl_htc_common.report.page import Table
from rlkl_htc_common.report.statistics import Interval

MISSING = "–"
Column = Sequence[Interval | None]


def cell(interval: Interval | None, form: str = ".3f") -> str:
    """An interval in a table; a dash where there is none."""
    return MISSING if interval is None else interval.shown(form)


def best_of(intervals: Column, lowest: bool = False) -> list[int]:
    """Where the best mean is; several places where it is shared. Args: lowest: whether less is better."""
    means = [interval.mean for interval in intervals if interval is not None]
    top = (min(means) if lowest else max(means)) if means else None
    return [place for place, interval in enumerate(intervals) if interval is not None and interval.mean == top]


def interval_table(
    corner: str, names: Sequence[str], columns: Mapping[str, Column], caption: str, *, bold: bool = True
) -> Table:
    """A row for each name, a column for each list of intervals over the names; the best of each column in bold.

    Args: corner: the head of the names.
    """
    rows = [[name, *(cell(column[row]) for column in columns.values())] for row, name in enumerate(names)]
    best = {(row, number) for number, each in enumerate(columns.values(), start=1) for row in best_of(each)}
    return Table([corner, *columns], rows, caption, best=best if bold else set())


def difference_table(corner: str, names: Sequence[str], columns: Mapping[str, Column], caption: str) -> Table:
    """The same of differences; in bold those whose interval leaves out 0."""
    rows = [[name, *(cell(column[row], "+.3f") for column in columns.values())] for row, name in enumerate(names)]
    sure = {
        (row, number)
        for number, column in enumerate(columns.values(), start=1)
        for row, found in enumerate(column)
        if found is not None and found.is_sure
    }
    return Table([corner, *columns], rows, caption, best=sure)
