"""`htc.predict_batch`: labelling inside an engine with workers of its own."""

import pickle
from collections import UserDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

import htc
from htc import InputError
from htc.batches import _loaded
from htc.predictor import ends, path_texts

from .htc_runs import place, train_in

__all__ = ["place"]  # a fixture

TEXTS = ["violin song", "atom energy", "cell gene plant animal cell gene", "force", "actor opera"]


@pytest.fixture(scope="module")
def folder(place):
    return str(train_in(place, "labels batches"))


@pytest.fixture(scope="module")
def expected(folder):
    paths = htc.load(folder).predict(TEXTS)
    return [path_texts(each) for each in paths], [ends(each) for each in paths]


def columns(batch):
    batch = batch.to_pydict() if hasattr(batch, "to_pydict") else batch
    return [list(batch[name]) for name in batch], list(batch)


@pytest.mark.parametrize(
    "batch",
    [
        {"number": [1, 2, 3, 4, 5], "text": TEXTS},
        {"number": np.arange(1, 6), "text": np.array(TEXTS)},
        {"number": np.arange(1, 6), "text": np.array(TEXTS, dtype=object)},
        UserDict({"number": [1, 2, 3, 4, 5], "text": TEXTS}),
        pd.DataFrame({"number": [1, 2, 3, 4, 5], "text": TEXTS}, index=[7, 7, 3, 2, 1]),
        pa.table({"number": [1, 2, 3, 4, 5], "text": TEXTS}),
        pa.table({"number": [1, 2, 3, 4, 5], "text": pa.chunked_array([TEXTS[:2], TEXTS[2:]])}),
    ],
    ids=["lists", "arrays", "objects", "mapping", "frame", "table", "chunks"],
)
def test_a_batch_of_any_kind_gets_two_columns_more(batch, folder, expected):
    given = type(batch)
    found = htc.predict_batch(batch, folder)
    values, names = columns(found)
    assert isinstance(found, dict if given is UserDict else given)
    assert names == ["number", "text", "labels", "probability"]
    assert values[0] == [1, 2, 3, 4, 5]
    assert values[1] == TEXTS
    assert (values[2], values[3]) == expected
    assert len(batch.column_names if isinstance(batch, pa.Table) else list(batch.keys())) == 2  # as it was
    if isinstance(batch, pd.DataFrame):
        assert list(found.index) == [7, 7, 3, 2, 1]


def test_datasets_map_labels_in_batches(folder, expected):
    rows = Dataset.from_dict({"body": TEXTS})
    arguments = {"model": folder, "text": "body", "prefix": "predicted_"}
    found = rows.map(htc.predict_batch, batched=True, batch_size=2, fn_kwargs=arguments)
    assert found.column_names == ["body", "predicted_labels", "predicted_probability"]
    assert found["predicted_labels"][:] == expected[0]


def test_it_can_be_sent_to_a_worker_and_loads_a_model_once_in_each(folder):
    _loaded.cache_clear()
    function = pickle.loads(pickle.dumps(htc.predict_batch))
    frames = (pd.DataFrame({"text": [text]}) for text in TEXTS)
    assert len([function(frame, folder) for frame in frames]) == len(TEXTS)
    assert (_loaded.cache_info().misses, _loaded.cache_info().hits) == (1, len(TEXTS) - 1)


def test_options_are_those_of_load(folder):
    top = htc.predict_batch({"text": TEXTS[:1]}, folder, decoder="top_down")
    assert len(top["labels"][0]) == 1
    with pytest.raises(InputError, match="no_such"):
        htc.predict_batch({"text": TEXTS}, folder, decoder="no_such")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"body": TEXTS}, "text='text': the batch has no such column; it has body"),
        ({"text": TEXTS, "labels": TEXTS}, "has a column 'labels' of its own; give prefix"),
        ({"text": ["violin", " "]}, "text 1 is empty"),
        ({"text": ["violin", None]}, "text 1 is None, not a text"),
        (pd.DataFrame({"text": ["violin", float("nan")]}), "text 1 is nan, not a text"),
        (pa.table({"text": ["violin", None]}), "text 1 is None, not a text"),
    ],
)
def test_batches_that_cannot_be_labelled(batch, message, folder):
    with pytest.raises(InputError, match=message):
        htc.predict_batch(batch, folder)
