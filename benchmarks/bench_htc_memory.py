"""make benchmark: memory of 100,000 documents and 30,000 labels, from the reader to the scores (see many_documents.py)."""

import pytest
from many_documents import in_process, write_documents

DOCUMENTS, LABELS = 100_000, 30_000
MOST = {"load": 0.5, "train": 8.0}  # gigabytes above the start of the process


@pytest.mark.parametrize("what", MOST)
def test_memory(benchmark, what, tmp_path):
    write_documents(tmp_path, DOCUMENTS, LABELS)
    found = benchmark.pedantic(lambda: in_process(what, tmp_path), rounds=1)
    benchmark.extra_info.update(documents=DOCUMENTS, labels=LABELS, **found)
    assert found["gigabytes"] < MOST[what]
