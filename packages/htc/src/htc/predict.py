"""htc-predict: label texts with a trained model.

    htc-predict text="Broken left wrist after a fall on the ice"
    htc-predict input=reports.txt format=jsonl > labels.jsonl          one text a line, or JSON lines with "text"
    some-command | htc-predict model=runs/htc/icd10cm/.../model

Without `model`, the model that was trained last under `runs` is used; without `decoder`, the inference rule that suits it: one
path to a leaf, or one that may end above, or several, as its training documents had them.
"""

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from common.cli import print_result, run_application
from htc.config import PredictConfig, register
from htc.datasets.jsonlines import document_text, read_records
from htc.errors import InputError
from htc.evaluation import check_rule, decode
from htc.hierarchy import Hierarchy
from htc.saved_model import SavedModel, load_model

log = logging.getLogger(__name__)

FORMATS = ("text", "jsonl")


def predict(model: SavedModel, texts: list[str], decoder: str) -> Iterator[dict[str, Any]]:
    """Label texts.

    Yields for each text `text` and `labels`: coherent paths, each a list of `{"label", "probability"}` from the top down.
    """
    probabilities = model.probabilities(model.encoder.embed(texts))
    sets = model.hierarchy.close(decode(decoder, probabilities, model.hierarchy, model.tuned_threshold))
    for text, row, nodes in zip(texts, probabilities, sets, strict=True):
        yield {"text": text, "labels": list(_labelled_paths(model.hierarchy, row, nodes))}


def _labelled_paths(hierarchy: Hierarchy, probabilities: Tensor, nodes: Tensor) -> Iterator[list[dict[str, Any]]]:
    for path in hierarchy.decode(nodes[None])[0]:
        steps = [hierarchy.node(path[: end + 1]) for end in range(len(path))]
        yield [{"label": hierarchy.names[n], "probability": round(float(probabilities[n]), 4)} for n in steps]


def last_model(runs: str | Path) -> Path:
    """The model folder written last under `runs/htc`. Raises InputError where there is none."""
    found = sorted(Path(runs).glob("htc/*/*/model/config.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise InputError(f"no trained model under {runs}/htc; run htc-train or make reproduce-htc first, or give model=FOLDER.")
    return found[-1].parent


def read_texts(config: PredictConfig) -> Iterator[str]:
    """The texts to label: from `text`, from the file `input`, or else from standard input.

    Raises:
        InputError: naming the line of an empty text or of malformed JSON.
    """
    if config.text is not None and config.input is not None:
        raise InputError("text and input are both given; give one of them.")
    if config.text is not None:
        if not config.text.strip():
            raise InputError("text is empty.")
        yield config.text
    elif config.input is not None and config.input.endswith((".json", ".jsonl")):
        for place, record in read_records(Path(config.input)):
            try:
                yield document_text(record)
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
    elif config.input is not None:
        try:
            with Path(config.input).open("rb") as file:
                yield from _lines(file, config.input)
        except OSError as error:
            raise InputError(f"{config.input}: cannot read the texts: {error.strerror}.") from error
    else:
        if sys.stdin.isatty():
            log.warning("reading texts from the keyboard, one a line; end with Ctrl-D")
        yield from _lines(sys.stdin.buffer, "standard input")


def _lines(lines: Iterable[bytes], source: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{source}:{number}: the line is not UTF-8 text.") from error
        if text:
            yield text


def as_text(prediction: dict[str, Any]) -> str:
    """A prediction for people: the text, and under it each path with its probabilities."""
    lines = [prediction["text"]]
    for path in prediction["labels"]:
        lines += [f"  {'  ' * depth}{step['probability']:6.1%}  {step['label']}" for depth, step in enumerate(path)]
    if not prediction["labels"]:
        lines.append("  (no label reaches the threshold)")
    return "\n".join(lines)


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PredictConfig)
    if typed.format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {typed.format!r}.")
    if typed.decoder is not None:
        check_rule(typed.decoder, one_path=True)  # before anything is loaded
    if typed.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {typed.batch_size}.")
    folder = last_model(typed.runs) if typed.model is None else Path(typed.model)
    model = load_model(folder)
    decoder = typed.decoder or model.decoder
    check_rule(decoder, model.objective.one_path)
    if typed.model is None:
        log.warning("model: %s", folder)
    texts = read_texts(typed)
    count = 0
    while batch := list(islice(texts, typed.batch_size)):
        _print(model, batch, decoder, typed.format)
        count += len(batch)
    if not count:
        raise InputError(f"there is no text in {typed.input or 'standard input'}.")


def _print(model: SavedModel, texts: list[str], decoder: str, output_format: str) -> None:
    for prediction in predict(model, texts, decoder):
        print_result(json.dumps(prediction, ensure_ascii=False) if output_format == "jsonl" else as_text(prediction))


def main() -> None:
    """The console entry point."""
    register()
    run_application(
        _task, application="htc", config="predict", bad_input=(InputError,), literal=("text", "input", "model", "runs")
    )


if __name__ == "__main__":
    main()
