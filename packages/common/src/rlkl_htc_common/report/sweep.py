"""What a sweep ends in: one table of all jobs, and the names of those that failed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlkl_htc_common.report.page import First, Table, markdown_table, write_report
from rlkl_htc_common.report.run_list import ListedRun, differences, metric_names, runs_section
from rlkl_htc_common.report.statistics import over_seeds
from rlkl_htc_common.runs.directory import read_json, write_atomically
from rlkl_htc_common.runs.sweeps import LOG, RECORD, Record
from rlkl_htc_common.terminal import printable

CAPTION = (
    "Means over seeds, with 95% intervals (Student t); of fewer than three seeds the values. Choose by dev: test is for the "
    "setting that was chosen."
)


def records_in(folder: Path) -> list[Record]:
    """What the jobs of a sweep left, by number."""
    found = [read_json(file, "remove it, and give the command of the sweep again") for file in folder.glob(f"*/{RECORD}")]
    return sorted(found, key=lambda record: record["number"])


def sweep_table(records: Sequence[Record]) -> Table:
    """A row for each setting that was swept over, with its metrics over seeds. Args: records: of jobs that were done."""
    keys = [key for key in differences([record["overrides"] for record in records]) if key != "seed"]
    metrics = metric_names([record["metrics"] for record in records])
    by_setting: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        by_setting.setdefault(tuple(record["overrides"].get(key, "") for key in keys), []).append(record)
    rows = []
    for setting, jobs in by_setting.items():
        values = ([job["metrics"][name] for job in jobs if name in job["metrics"]] for name in metrics)
        rows.append([*setting, str(len(jobs)), *(str(over_seeds(each)) if each else "–" for each in values)])
    columns = [*keys, "runs", *metrics]
    return Table(columns, rows, CAPTION, texts=set(range(len(keys))))


def _verdict(records: Sequence[Record]) -> str:
    """The setting with the highest mean score."""
    keys = [key for key in differences([record["overrides"] for record in records]) if key != "seed"]
    scores: dict[str, list[float]] = {}
    for record in records:
        setting = ", ".join(f"{key}={record['overrides'].get(key, '')}" for key in keys) or "the one setting"
        if (score := record.get("score")) is not None:
            scores.setdefault(setting, []).append(score)
    if not scores:
        return f"{len(records)} jobs done; they have no score to compare."
    best = max(scores, key=lambda setting: sum(scores[setting]) / len(scores[setting]))
    return f"The best score has {best}: {over_seeds(scores[best])}, of {len(scores)} settings."


def finish(program: str, folder: Path) -> int:
    """Write the table and the report of the sweep that ran, and tell which jobs failed.

    Args: program: what was started; folder: of the sweep. Returns: the exit code, 1 where a job failed, else 0.
    """
    records = records_in(folder)
    done = [record for record in records if record["error"] is None]
    failed = [record for record in records if record["error"] is not None]
    if records:
        sections, first = [runs_section([_listed(record) for record in records])], None
        if done:
            table = sweep_table(done)
            write_atomically(folder / "table.md", markdown_table(table) + "\n")
            first = First(_verdict(done), f"A score is what the sweep looks for. {CAPTION}", None, table)
            print(printable(f"{markdown_table(table)}\n\nreport: {folder / 'report.html'}"))
        lead = f"{len(done)} of {len(records)} jobs done" + (f", {len(failed)} failed." if failed else ".")
        write_report(folder / "report.html", f"Sweep: {folder.name}", lead, sections, [("folder", str(folder))], first)
    for record in failed:
        where = folder / str(record["number"]) / LOG
        sentence = f"{program}: job {record['number']} failed: {record['error']} ({record['command']}; {where})"
        print(printable(sentence, keep=""), file=sys.stderr)
    return 1 if failed else 0


def _listed(record: Record) -> ListedRun:
    where = record["run_dir"] or f"failed: {record['error']}"
    settings, metrics = record["overrides"], record["metrics"]
    return ListedRun(name=str(record["number"]), settings=settings, metrics=metrics, command=record["command"], where=where)
