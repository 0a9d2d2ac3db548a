"""Label texts inside an engine that has workers of its own: Ray Data, Spark, or the map of Hugging Face's datasets."""

from functools import lru_cache
from typing import Any, TypeVar

from htc.predictor import LABELS, PROBABILITY, Predictor, ends, load, path_texts
from rlkl_htc_common.errors import InputError

Batch = TypeVar("Batch")

_loaded = lru_cache(maxsize=2)(load)  # a worker calls with the same model again and again


def predict_batch(batch: Batch, model: str, text: str = "text", prefix: str = "", **options: Any) -> Batch:
    """Label the texts of a batch; each process loads the model once.

    A plain function, which engines can send to their workers:

        dataset.map(htc.predict_batch, batched=True, fn_kwargs={"model": "my/model"})        # datasets
        dataset.map_batches(htc.predict_batch, fn_kwargs={"model": "my/model"})              # Ray Data
        frame.mapInPandas(lambda frames: (htc.predict_batch(f, "my/model") for f in frames), schema)     # Spark

    Args:
        batch: rows, as a dictionary of columns, a pandas DataFrame, or a pyarrow Table.
        model: the folder of a trained model, which every worker can read, or its name on the Hugging Face hub.
        text: the column of texts.
        prefix: what the names of the new columns begin with.
        options: of `htc.load`: decoder, batch_size, device.

    Returns:
        The batch with two columns more: `labels`, for each row the texts of its paths, such as "Arts > Music", and
        `probability`, for each path that of its last label.

    Raises:
        InputError: as `htc.load` and `Predictor.predict`; for a batch without the column, or with the new ones.
    """
    names = _columns(batch)
    if text not in names:
        raise InputError(f"text={text!r}: the batch has no such column; it has {', '.join(map(str, names))}.")
    taken = {prefix + LABELS, prefix + PROBABILITY} & set(names)
    if taken:
        raise InputError(f"the batch has a column {min(taken)!r} of its own; give prefix='predicted_', or another.")
    predictor: Predictor = _loaded(model, **options)
    column: Any = batch[text]  # type: ignore[index]
    paths = predictor.predict(column.to_pylist() if hasattr(column, "to_pylist") else list(column))
    return _with(batch, {prefix + LABELS: list(map(path_texts, paths)), prefix + PROBABILITY: list(map(ends, paths))})


def _columns(batch: Any) -> list[str]:
    return list(batch.column_names if hasattr(batch, "column_names") else batch.keys())


def _with(batch: Any, new: dict[str, list[Any]]) -> Any:
    """A batch of the same kind with columns more."""
    if hasattr(batch, "append_column"):  # of pyarrow
        for name, values in new.items():
            batch = batch.append_column(name, [values])
        return batch
    if hasattr(batch, "assign"):  # of pandas
        return batch.assign(**new)
    return {**batch, **new}
