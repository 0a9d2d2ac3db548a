"""Train from Python, as htc-train does on the command line.

import htc

model = htc.train(frame, text="body", labels="topics")      # a pandas DataFrame, a Dataset, a file ...
model.result["test"]["rules"][model.decoder]["hf1_micro"]
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import htc.experiment.config as configs
from htc.commands.train import train as run_training
from htc.commands.train import warn_if_slow
from htc.datasets.cells import Cells
from htc.datasets.paths_in_cells import split_cell
from htc.datasets.paths_in_lists import list_columns
from htc.datasets.sources import Wanted, read_splits
from htc.datasets.stored_texts import TextStorage
from htc.predictor import Predictor, load
from rlkl_htc_common.commands.composing import compose_settings
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import flatten

UNKNOWN = ""  # until the data are read


def train(
    data: Any = None,
    *,
    text: str | None = None,
    labels: str | Sequence[str] | None = None,
    dev: Any = None,
    test: Any = None,
    progress: bool = True,
    **settings: Any,
) -> Predictor:
    """Train a classifier and score it under every inference rule; a finished training is not done again.

    Args:
        data: documents, in any form that `htc.datasets.sources` reads: a DataFrame, a Dataset, a DatasetDict with its splits, a
            file, a list of records. None for the dataset that the settings name, or the command's default.
        text: the column of texts; default: `text`.
        labels: the column of labels, each cell a label, a path such as `Arts > Music`, or a list of paths; or the columns of
            the levels, from the top down. Default: the only column with lists, else all others.
        dev, test: the documents of these splits; default: those of `data`, or drawn from it.
        progress: whether to show bars.
        settings: as on the command line of htc-train: `loss="focal"`, `seed=1`, `training={"epochs": 3}`,
            `**{"dataset.separator": "/"}`. Without `run_dir`, the run's folder is in `runs`, in the working directory.

    Returns:
        The trained model; its `result` holds the scores on dev and test.

    Raises:
        InputError: for documents that cannot be read, with their place; for an unknown setting or value.
    """
    for option, value in (("text", [text]), ("labels", list(labels) if isinstance(labels, list | tuple) else [labels])):
        if not all(name is None or isinstance(name, str) for name in value):
            raise InputError(f"{option} must be the name of a column, as a text{', or a list of such' * (option == 'labels')}.")
    tables, chosen = None, dict(flatten(settings))
    if data is None:
        given = {"text": text, "labels": labels, "dev": dev, "test": test}
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            raise InputError(f"{unused[0]} is given without data; name a dataset's columns by its settings, dataset.text=...")
    else:
        if chosen.get("dataset", "table") != "table":
            raise InputError(f"data and dataset={chosen['dataset']!r} are both given; give one of them.")
        of_text = {} if text is None else {"dataset.text": text}
        chosen = {"dataset": "table", "dataset.file": UNKNOWN} | of_text | chosen
    configs.register()
    config: configs.TrainConfig = compose_settings("htc", "train", configs.TrainConfig, chosen)
    if data is not None:
        assert isinstance(config.dataset, configs.TableConfig)
        tables = read_splits(data, dev, test, _wanted(config, config.dataset, labels))
        found = _of_table(tables["train"], data, dev, test) | _of_columns(tables["train"], labels, config.dataset)
        set_already = {key.removeprefix("dataset.") for key, value in chosen.items() if value != UNKNOWN}
        dataset = replace(config.dataset, **{key: value for key, value in found.items() if key not in set_already})
        config = replace(config, dataset=dataset)
    warn_if_slow(config)
    result = run_training(config, progress, tables)
    return load(Path(result["run_dir"]))


def _of_table(table: Cells, data: Any, dev: Any, test: Any) -> dict[str, Any]:
    """The settings of the dataset that name the tables: as on the command line if these are files."""
    files = {split: str(file) for split, file in (("dev", dev), ("test", test)) if isinstance(file, str | Path)}
    return {"file": str(data) if isinstance(data, str | Path) else table.source, **files}


def _wanted(config: configs.TrainConfig, dataset: configs.TableConfig, labels: str | Sequence[str] | None) -> Wanted:
    """What is read of the tables."""
    columns = [labels] if isinstance(labels, str) else [*(labels or ()), *(dataset.levels or ())]
    others = (*columns, dataset.path, dataset.split) if columns or dataset.path else None
    return Wanted(dataset.text, others, TextStorage(dataset.texts, config.cache_dir))


def _of_columns(table: Cells, labels: str | Sequence[str] | None, dataset: configs.TableConfig) -> dict[str, Any]:
    """The settings that name the columns of labels. A column holds paths if a cell is a list or has a separator."""
    if labels is None:
        return {}
    if not isinstance(labels, str):
        return {"levels": list(labels)}
    column, separator = table.column(labels, "labels"), dataset.separator
    cells = {row[column] for _, row in table.rows if column < len(row) and isinstance(row[column], str)}
    in_path = separator and any(len(split_cell(cell, separator)) > 1 for cell in cells)
    if in_path or dataset.path_separator or list_columns(table, [column]):
        return {"path": labels}
    return {"levels": [labels]}
