"""htc-predict: label texts with a trained model.

    htc-predict text="Broken left wrist after a fall on the ice"
    htc-predict input=reports.txt format=jsonl > labels.jsonl          one text per line
    htc-predict input=reports.csv text_column=body format=csv          a table, or JSON with "text": all formats of htc-train
    some-command | htc-predict model=runs/htc/icd10cm/.../model
    htc-predict input_format=csv < reports.csv                         the format of standard input, if not one text per line

Without `model`, the last trained model under `runs` is used. Without `decoder`, the inference rule follows the training
documents: one path to a leaf, one path ending anywhere, or several paths.
"""

if __name__ == "__main__":  # before the slow imports
    from htc.commands import scripts

    scripts.predict()


import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from htc.datasets.texts import format_named, format_of, texts_in
from htc.decoding.by_name import check_rule
from htc.experiment.config import PredictConfig
from htc.experiment.saved_model import load_model
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.predictor import LabelPath, Predictor
from rlkl_htc_common.commands.application import print_as_is, print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.terminal import csv_line, printable

log = logging.getLogger(__name__)

FORMATS = ("text", "jsonl", "csv")
CSV_COLUMNS = ("text", "labels", "probability")


def record_of(text: str, paths: list[LabelPath]) -> dict[str, Any]:
    """A prediction as JSON: `text`, and `labels`, its paths, each a list of `{"label", "probability"}` from the top down."""
    return {"text": text, "labels": [[step._asdict() for step in path] for path in paths]}


def last_model(runs: str | Path) -> Path:
    """The newest model folder under `runs/htc`. Raises InputError if there is none."""
    found = sorted(Path(runs).glob("htc/*/*/model/config.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise InputError(f"no trained model under {runs}/htc; run htc-train or make reproduce-htc first, or give model=FOLDER.")
    return found[-1].parent


def read_texts(config: PredictConfig, column: str = "text") -> Iterator[str]:
    """The texts to label: `text`, or the file `input`, or standard input (`htc.datasets.texts`).

    Args:
        column: the text column of a table, if the config names none.

    Raises:
        InputError: with the line, for an unreadable or empty text; for an unknown format.
    """
    named = None if config.input_format is None else format_named(config.input_format)
    if config.text is not None:
        for other in ("input", "input_format", "text_column"):
            if getattr(config, other) is not None:
                raise InputError(f"text and {other} are both given; give one of them.")
        if not config.text.strip():
            raise InputError("text is empty.")
        return iter([config.text])
    form = named or ("lines" if config.input is None else format_of(Path(config.input)))
    if config.text_column is not None and form not in ("csv", "tsv"):
        raise InputError(
            f"text_column is for tables, but {config.input or 'standard input'} is read as {form}; see input_format."
        )
    return _texts_of(config.input, form, config.text_column or column, sure=named is not None)


def _texts_of(file: str | None, form: str, column: str, sure: bool) -> Iterator[str]:
    if file is None:
        if sys.stdin.isatty():
            log.warning("reading texts from the keyboard%s; end with Ctrl-D", ", one a line" if form == "lines" else "")
        yield from texts_in(sys.stdin.buffer, "standard input", form, column, sure)
        return
    try:
        with Path(file).open("rb") as lines:
            yield from texts_in(lines, file, form, column, sure)
    except OSError as error:
        raise InputError(f"{file}: cannot read the texts: {error.strerror}.") from error


def as_text(prediction: dict[str, Any]) -> str:
    """A prediction as readable text: the text, then each path with its probabilities."""
    lines = [printable(prediction["text"], keep="\t")]
    for path in prediction["labels"]:
        for depth, step in enumerate(path):
            lines.append(f"  {'  ' * depth}{step['probability']:6.1%}  {printable(step['label'], keep='')}")
    if not prediction["labels"]:
        lines.append("  (no label reaches the threshold)")
    return "\n".join(lines)


def as_csv(prediction: dict[str, Any]) -> str:
    """A prediction as one row of CSV_COLUMNS: the text, its paths, and the probability of the last label of each path."""
    paths = (PATH_SEPARATOR.join(step["label"] for step in path) for path in prediction["labels"])
    ends = (str(path[-1]["probability"]) for path in prediction["labels"])
    return csv_line([prediction["text"], "; ".join(paths), "; ".join(ends)])


def task(config: DictConfig) -> None:
    """htc-predict."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PredictConfig)
    if typed.format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {typed.format!r}.")
    if typed.decoder is not None:
        check_rule(typed.decoder, one_path=True)  # before anything is loaded
    if typed.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {typed.batch_size}.")
    folder = last_model(typed.runs) if typed.model is None else Path(typed.model)
    model = Predictor(load_model(folder), typed.decoder, typed.batch_size)
    if typed.model is None:
        log.warning("model: %s", folder)
    texts = read_texts(typed, str(model.model.dataset.get("text", "text")))
    by_hand = typed.text is None and typed.input is None and sys.stdin.isatty()
    count = 0
    for text, paths in model.stream(texts, at_once=1 if by_hand else None):
        if typed.format == "csv" and not count:
            print_as_is(csv_line(CSV_COLUMNS))
        _print(record_of(text, paths), typed.format)
        count += 1
    if not count:
        raise InputError(f"there is no text in {typed.input or 'standard input'}.")


def _print(prediction: dict[str, Any], output_format: str) -> None:
    if output_format == "text":
        print_result(as_text(prediction))
    else:
        print_as_is(as_csv(prediction) if output_format == "csv" else json.dumps(prediction, ensure_ascii=False))
