"""make demo: both packages at work in two minutes on two cores, and one page on what they did.

    python examples/demo.py [FOLDER]      the folder of the page; default: outputs/demo

A classifier of diagnoses is trained, and labels five sentences; a model that adds makes mistakes, coloured by its certainty,
and is fine-tuned on longer numbers with the weighted and with the standard KL. Runs are in `runs`, as those of the commands
are. Finished runs are not run again, and after Ctrl-C the same command continues.
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl_htc_common.cli.program import begin

    begin("rlkl-htc-common")


import logging
import sys
import time
from pathlib import Path
from typing import Any

import htc
import rlkl.commands.config as rlkl_configs
from htc.predictor import LabelPath, Predictor
from rlkl.analysis.certainty_gaps import Scratchpad, scratchpads
from rlkl.commands.config import FinetuneConfig
from rlkl.commands.finetune import finetune
from rlkl.model.completion import complete, sample
from rlkl.model.language_model import load_on_device, task_of
from rlkl.report.curves import history_figure
from rlkl.report.records import Run
from rlkl.report.scratchpad_view import to_html
from rlkl.report.start import SCRATCHPADS_TEXT
from rlkl_htc_common.cli.interruption import exit_code, stoppable
from rlkl_htc_common.cli.program import BAD_INPUT, program_name
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.commands.composing import compose_settings
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.figures import picture
from rlkl_htc_common.report.page import First, Picture, Section, Table, write_report
from rlkl_htc_common.report.records import provenance, read_record
from rlkl_htc_common.report.styles import styles_of
from rlkl_htc_common.runs.directory import git_commit, make_folder, versions
from rlkl_htc_common.terminal import printable

COMMAND = "python examples/demo.py"
CLASSIFIER: dict[str, Any] = {"dataset.max_documents": 12000}  # of 36,343: all of them would take minutes more
FINETUNING = {"algorithm.iterations": 8}
PENALTIES = {"prioritized KL": "prioritized", "standard KL": "standard"}
SENTENCES = (
    "Broken left wrist after a fall on the ice",
    "Type 2 diabetes with kidney damage",
    "Bitten by a dog",
    "Newborn with yellow skin",
    "Chest pain that spreads into the left arm",
)
PROBLEMS, SHOWN = 20, 3  # additions to look for mistakes in, and mistakes on the page
LONGER = "eval/accuracy_longer"
CURVE = ("Accuracy on longer numbers", "Accuracy on N+1 digits during fine-tuning, of one run each.")
LEAD = (
    "htc classifies texts into a hierarchy of labels; micro hF1 is F1 over the labels of all documents, ancestors included. "
    "rlkl fine-tunes language models with a KL penalty; the prioritized one is weak where the pre-trained model was unsure."
)
SHORTENED = (
    "This is a demonstration: one seed, few iterations, and a part of the documents (htc-train takes them all). On additions "
    "no KL at all is better still. Comparisons with intervals, and their limits, are in results/REPRODUCTION.md."
)


def label(model: Predictor) -> Table:
    """The five sentences, each with the labels that the classifier gives it."""
    rows = [[text, *_row(paths)] for text, paths in zip(SENTENCES, model.predict(SENTENCES), strict=True)]
    caption = "Five sentences that no document holds, each with its most specific label."
    return Table(["sentence", "label", "probability", "below"], rows, caption, texts={1, 3})


def _row(paths: list[LabelPath]) -> list[str]:
    """The last label of the longest path, its probability, and the labels above it."""
    path = max(paths, key=len, default=[])
    if not path:
        return ["–", "–", "–"]
    *above, last = path
    return [last.label, f"{last.probability:.0%}", " > ".join(step.label for step in above) or "–"]


def mistakes(name: str) -> tuple[list[Scratchpad], int]:
    """Wrong answers of a model on numbers that are longer than in its training. Returns: some of them, and how many."""
    model = load_on_device(name)
    trained = model.config.trained_digits
    problems = sample(task_of(model), "varying", trained + 1, PROBLEMS, seed=0)
    wrong = [pad for pad in scratchpads(model, problems, complete(model, problems), trained) if not pad["right"]]
    return wrong[:SHOWN], len(wrong)


def fine_tune(penalty: str) -> Run:
    """A short fine-tuning on longer numbers."""
    config = compose_settings("rlkl", "finetune", FinetuneConfig, {"penalty": penalty, **FINETUNING})
    return read_record(Run, finetune(config), "the run")


def result_table(score: float, documents: int, runs: dict[str, Run]) -> Table:
    """What each part came to, in one row."""
    (first, *_) = runs.values()
    digits = f"right answers on {first.digits} digits, of {first.evaluation.examples}"
    rows = [[f"classifier, micro hF1 on {documents:,} documents", "–", f"{score:.3f}"]]
    for name, run in runs.items():
        rows.append([f"{name}, {digits}", *(f"{value:.2f}" for value in _ends(run))])
    return Table(["", "before", "after"], rows, "What the trainings reach, on documents and on problems that they did not see.")


def _ends(run: Run) -> tuple[float, float]:
    """Accuracy on longer numbers before and after."""
    values = [float(value) for line in run.history if (value := line.get(LONGER)) is not None]
    return values[0], values[-1]


def verdict(score: float, runs: dict[str, Run]) -> str:
    """What came out, in two sentences."""
    (weighted, standard), (first, *_) = runs, runs.values()
    before, after = _ends(first)
    return (
        f"The classifier labels diagnoses that it did not see with a micro hF1 of {score:.2f}. The model that adds had "
        f"{before:.0%} of longer additions right: after a short fine-tuning with the {weighted} it has {after:.0%}, with the "
        f"{standard} {_ends(runs[standard])[1]:.0%}."
    )


def write_page(
    folder: Path, model: Predictor, pads: list[Scratchpad], wrong: int, runs: dict[str, Run], seconds: float
) -> Path:
    """Write the page. Args: wrong: how many of the problems were answered wrong; seconds: this command's. Returns: the file."""
    result = model.result or {}
    score, styles = result["test"]["rules"][model.decoder]["hf1_micro"], styles_of(runs)
    hero, *others = (to_html(pad) for pad in pads)
    curve = picture(history_figure({name: [run] for name, run in runs.items()}, LONGER, "accuracy", styles), *CURVE)
    found = f"The model adds numbers of up to N digits. Of {PROBLEMS} additions of N+1 digits it gets {wrong} wrong."
    table = result_table(score, result["test"]["documents"], runs)
    first = First(verdict(score, runs), SHORTENED, Picture(hero, SCRATCHPADS_TEXT), table)
    sections = [
        Section("Five sentences, labelled", tables=[label(model)]),
        Section("Fine-tuning, with and without the weighting", pictures=[curve], legend=styles),
        Section(
            "Mistakes, coloured by certainty", [found], pictures=[Picture(pad, "wrong answer") for pad in others], folded=True
        ),
    ]
    folders = ("classifier", result["run_dir"]), *((name, run.run_dir) for name, run in runs.items())
    facts = [
        *provenance(COMMAND, git_commit(), versions(), *folders),
        ("time", f"{seconds:.0f} s, without what was done before"),
    ]
    file = folder / "demo.html"
    write_report(file, "htc and rlkl at work", LEAD, sections, facts, first, styles)
    return file


def demonstrate(folder: Path) -> Path:
    """Run all parts. Returns: the page."""
    started = time.monotonic()
    make_folder(folder)
    rlkl_configs.register()
    say("1 of 3: a classifier of diagnoses (ICD-10-CM)")
    model = htc.train(**CLASSIFIER)
    say("2 of 3: the mistakes of a model that adds")
    pads, wrong = mistakes("addition-n5")
    runs = {}
    for name, penalty in PENALTIES.items():
        say(f"3 of 3: fine-tuning with the {name}")
        runs[name] = fine_tune(penalty)
    return write_page(folder, model, pads, wrong, runs, time.monotonic() - started)


def say(text: str) -> None:
    """Show which part begins."""
    print(f"{text} ...", file=sys.stderr, flush=True)


def main() -> None:
    """The entry point."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print_result(str(__doc__).strip())
        return
    logging.basicConfig(level=logging.WARNING)
    try:
        if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
            raise InputError(f"expected at most one folder: {COMMAND} FOLDER")
        with stoppable():
            print_result(f"page: {demonstrate(Path(*arguments or ['outputs/demo']))}")
    except InputError as error:
        print(printable(f"{program_name()}: {error}", keep=""), file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(exit_code())


if __name__ == "__main__":
    main()
