"""htc-demo: a page to try a trained model on, in the browser of this machine.

    htc-demo                                            the model that was trained last, on http://127.0.0.1:7860/
    htc-demo model=runs/htc/icd10cm/RUN port=0          a model's folder, on any free port
    htc-demo model=USER/NAME                            a model of the Hugging Face hub
    htc-demo 'examples=[Broken left wrist,"Cough, since Monday"]'

The page labels a text as it is typed, shows the hierarchy by probability, compares the inference rules, and labels tables. It
ends at Ctrl-C.
"""

if __name__ == "__main__":  # before the slow imports
    from htc.commands import scripts

    scripts.demo()


import logging
import os
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Event

from omegaconf import DictConfig, OmegaConf

from htc.commands.predict import last_model, read_rows
from htc.commands.predictions import labelled, writing
from htc.decoding.by_name import check_rule
from htc.decoding.conformal import check_coverage
from htc.demo.server import address_of, is_private, opened, serve
from htc.experiment.calibration import check_temperature
from htc.experiment.config import DemoConfig, PredictConfig
from htc.predictor import LabelPath, Predictor, load
from rlkl_htc_common.cli.interruption import importing
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

log = logging.getLogger(__name__)

FIRST = 5  # rows of a labelled table that the page shows


def check(config: DemoConfig) -> None:
    """Refuse what could only fail after the model is loaded. Raises InputError."""
    require("htc[demo]", "gradio")
    if config.decoder is not None:
        check_rule(config.decoder, one_path=True)
    if config.coverage is not None:
        check_coverage(config.coverage)
        if config.decoder is not None:
            raise InputError("coverage and decoder are both given; give the one that the page begins with.")
    check_temperature(config.temperature)
    for key in ("batch_size", "max_rows", "max_megabytes"):
        if getattr(config, key) < 1:
            raise InputError(f"{key} must be at least 1, not {getattr(config, key)}.")
    for number, text in enumerate(config.examples or []):
        if not text.strip():
            raise InputError(f"examples: text {number} is empty.")


def label_table(
    model: Predictor,
    file: Path,
    output: Path,
    *,
    text_column: str | None = None,
    prefix: str = "",
    max_rows: int | None = None,
    coverage: float | None = None,
    ending: Event | None = None,
) -> tuple[int, list[tuple[str, list[LabelPath]]]]:
    """Label a table as `htc-predict input= output=` does.

    Args:
        file: read as its ending says.
        output: .jsonl, .csv or .parquet.
        text_column: None for the one that the model was trained with.
        prefix: what the names of the new columns begin with.
        max_rows: refuse longer tables, before anything is labelled.
        coverage: see `Predictor.predict`.
        ending: once it is set, no more rows are labelled.

    Returns:
        The number of rows, and the first texts with their labels.

    Raises:
        InputError: with the file's name, for what htc-predict refuses, and too many rows.
    """
    column = str(model.model.dataset.get("text", "text"))
    config = PredictConfig(input=str(file), text_column=text_column)
    try:
        rows = sum(1 for _ in islice(read_rows(config, column), None if max_rows is None else max_rows + 1))
        if max_rows is not None and rows > max_rows:
            raise InputError(
                f"{file.name} has more than {max_rows:,} rows, and this page takes no more: label it with htc-predict "
                f"input={file.name} output={output.name}, or start the page with a higher max_rows."
            )
        if not rows:
            raise InputError(f"there is no text in {file.name}.")
        first: list[tuple[str, list[LabelPath]]] = []
        with writing(output, prefix) as writer:
            for row, paths in labelled(model, read_rows(config, column), coverage):
                if ending is not None and ending.is_set():
                    raise InputError("the page has ended.")
                writer.write(row, paths)
                if len(first) < FIRST:
                    first.append((row.text, paths))
    except InputError as error:
        raise InputError(str(error).replace(str(file), file.name)) from error  # not the folder where the page keeps it
    return rows, first


def task(config: DictConfig) -> None:
    """htc-demo."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, DemoConfig)
    check(typed)
    with opened(typed.host, typed.port) as listening, TemporaryDirectory(prefix="htc-demo-") as folder:
        chosen = str(last_model(typed.runs)) if typed.model is None else typed.model
        model = load(chosen, decoder=typed.decoder, batch_size=typed.batch_size, temperature=typed.temperature)
        model.check_promise(typed.coverage)
        log.warning("model: %s", chosen)
        ending = Event()
        os.environ["GRADIO_TEMP_DIR"] = folder  # of uploaded and labelled tables; read when gradio is imported
        with importing():
            from htc.demo.page import Labelled, Limits, application, examples_of, page

        def label(file: Path, column: str | None, suffix: str, prefix: str) -> Labelled:
            output = Path(mkdtemp(dir=folder)) / f"{file.stem}_labelled{suffix}"
            rows, first = label_table(
                model,
                file,
                output,
                text_column=column,
                prefix=prefix,
                max_rows=typed.max_rows,
                coverage=typed.coverage,
                ending=ending,
            )
            return Labelled(output, rows, first)

        examples = examples_of(model.hierarchy) if typed.examples is None else typed.examples
        limits = Limits(typed.max_rows, typed.max_megabytes)
        app = application(page(model, label, limits, examples, typed.coverage), limits)
        if not is_private(listening):
            log.warning("host=%s: whoever reaches this machine can use the page; it asks for no password.", typed.host)
        serve(app, listening, lambda: print_result(f"{address_of(listening)}  (Ctrl-C ends it)"), ending)
