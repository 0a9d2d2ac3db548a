"""htc-predict: label texts with a trained model.

    htc-predict text="Broken left wrist after a fall on the ice"
    htc-predict input=reports.txt format=jsonl > labels.jsonl          one text per line
    htc-predict input=reports.csv text_column=body format=csv          a table, or JSON with "text": all formats of htc-train
    htc-predict input=reports.parquet output=labelled.parquet          a file with the input's columns: .jsonl, .csv, .parquet
    some-command | htc-predict model=runs/htc/icd10cm/.../model
    htc-predict coverage=0.9 text="some pain"                          answers that end where the model is no longer sure
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
from tqdm import tqdm

from htc.commands.predictions import as_record, check_output, labelled, writing
from htc.datasets.texts import Row, format_named, format_of, rows_in
from htc.decoding.by_name import check_rule
from htc.decoding.conformal import check_coverage
from htc.experiment.calibration import check_temperature
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
    return {"text": text, "labels": as_record(paths)}


def last_model(runs: str | Path) -> Path:
    """The newest model folder under `runs/htc`. Raises InputError if there is none."""
    found = sorted(Path(runs).glob("htc/*/*/model/config.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise InputError(f"no trained model under {runs}/htc; run htc-train or make reproduce-htc first, or give model=FOLDER.")
    return found[-1].parent


def read_texts(config: PredictConfig, column: str = "text") -> Iterator[str]:
    """The texts of `read_rows`. Args, raises: likewise."""
    rows = read_rows(config, column)
    return (row.text for row in rows)


def read_rows(config: PredictConfig, column: str = "text") -> Iterator[Row]:
    """What is to be labelled: `text`, or the file `input`, or standard input (`htc.datasets.texts`).

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
        return iter([Row("text", config.text, ["text"], [config.text])])
    form = named or ("lines" if config.input is None else format_of(Path(config.input)))
    if config.text_column is not None and form == "lines":
        raise InputError(
            f"text_column is for tables, but {config.input or 'standard input'} is read as lines; see input_format."
        )
    if form == "parquet" and config.input is None:
        raise InputError("a Parquet file is not read from standard input; give it with input=FILE.")
    named_column = config.text_column is not None
    return _rows_of(config.input, form, config.text_column or column, sure=named is not None, named=named_column)


def _rows_of(file: str | None, form: str, column: str, sure: bool, named: bool) -> Iterator[Row]:
    if file is None:
        if sys.stdin.isatty():
            log.warning("reading texts from the keyboard%s; end with Ctrl-D", ", one a line" if form == "lines" else "")
        yield from rows_in(sys.stdin.buffer, "standard input", form, column, sure, named)
        return
    try:
        with Path(file).open("rb") as lines:
            yield from rows_in(lines, file, form, column, sure, named)
    except OSError as error:
        raise InputError(f"{file}: cannot read the texts: {error.strerror}.") from error


def as_text(prediction: dict[str, Any], none: str = "no label reaches the threshold") -> str:
    """A prediction as readable text: the text, then each path with its probabilities; `none` where there is no path."""
    lines = [printable(prediction["text"], keep="\t")]
    for path in prediction["labels"]:
        for depth, step in enumerate(path):
            lines.append(f"  {'  ' * depth}{step['probability']:6.1%}  {printable(step['label'], keep='')}")
    if not prediction["labels"]:
        lines.append(f"  ({none})")
    return "\n".join(lines)


def as_csv(prediction: dict[str, Any]) -> str:
    """A prediction as one row of CSV_COLUMNS: the text, its paths, and the probability of the last label of each path."""
    paths = (PATH_SEPARATOR.join(step["label"] for step in path) for path in prediction["labels"])
    ends = (str(path[-1]["probability"]) for path in prediction["labels"])
    return csv_line([prediction["text"], "; ".join(paths), "; ".join(ends)])


def check(config: PredictConfig) -> None:
    """Refuse what could only fail after the model is loaded. Raises InputError."""
    if config.format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {config.format!r}.")
    if config.decoder is not None:
        check_rule(config.decoder, one_path=True)
    if config.coverage is not None:
        check_coverage(config.coverage)
        if config.decoder is not None:
            raise InputError(
                "coverage and decoder are both given; answers with a coverage follow no rule, so give one of them."
            )
    check_temperature(config.temperature)
    if config.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {config.batch_size}.")
    if config.output is None:
        if config.overwrite or config.prefix:
            raise InputError(f"{'overwrite' if config.overwrite else 'prefix'} is for a file of predictions; give output=FILE.")
        return
    if config.format != FORMATS[0]:
        raise InputError(f"format={config.format} is for standard output; a file has the format that its ending says.")
    output = Path(config.output)
    if config.input is not None and output.exists() and Path(config.input).exists() and output.samefile(config.input):
        raise InputError(f"{output} is the input; choose another output.")
    check_output(output, config.overwrite)


def task(config: DictConfig) -> None:
    """htc-predict."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PredictConfig)
    check(typed)
    folder = last_model(typed.runs) if typed.model is None else Path(typed.model)
    model = Predictor(load_model(folder), typed.decoder, typed.batch_size, folder, typed.temperature)
    model.check_promise(typed.coverage)
    if typed.model is None:
        log.warning("model: %s", folder)
    column = str(model.model.dataset.get("text", "text"))
    if typed.output is None:
        count = _print_all(typed, model, read_texts(typed, column))
    else:
        count = _write_all(typed, Path(typed.output), model, read_rows(typed, column))
    if not count:
        raise InputError(_no_text(typed))


def _no_text(config: PredictConfig) -> str:
    return f"there is no text in {config.input or 'standard input'}."


def _print_all(config: PredictConfig, model: Predictor, texts: Iterator[str]) -> int:
    by_hand = config.text is None and config.input is None and sys.stdin.isatty()
    count = 0
    for text, paths in model.stream(texts, at_once=1 if by_hand else None, coverage=config.coverage):
        if config.format == "csv" and not count:
            print_as_is(csv_line(CSV_COLUMNS))
        _print(record_of(text, paths), config)
        count += 1
    return count


def _write_all(config: PredictConfig, output: Path, model: Predictor, rows: Iterator[Row]) -> int:
    """Write the file `output`."""
    count = 0
    with writing(output, config.prefix, config.overwrite) as writer, tqdm(desc="labelling", unit="text", disable=None) as bar:
        for row, paths in labelled(model, rows, config.coverage):
            writer.write(row, paths)
            bar.update()
            count += 1
        if not count:
            raise InputError(_no_text(config))
    log.info("%s: %d rows", output, count)
    return count


def _print(prediction: dict[str, Any], config: PredictConfig) -> None:
    if config.format == "text":
        none = (
            "no label reaches the threshold" if config.coverage is None else f"not sure enough for coverage={config.coverage:g}"
        )
        print_result(as_text(prediction, none))
    else:
        print_as_is(as_csv(prediction) if config.format == "csv" else json.dumps(prediction, ensure_ascii=False))
