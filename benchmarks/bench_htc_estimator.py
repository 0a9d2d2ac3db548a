"""make benchmark: memory of the estimator on many sparse features and labels, in a process of its own.

10,000 documents of 100 words, 50,000 features, 2,225 labels. One iteration is enough: L-BFGS takes its memory at the start.
"""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from bench_htc_memory import memory
from hierarchies import tree
from scipy import sparse

from htc.estimator import HierarchicalClassifier

DOCUMENTS, FEATURES, WORDS = 10_000, 50_000, 100
LEVELS = (22, 283, 1920)  # 2,225 labels, as ICD-10-CM
GIGABYTES = 4.0  # of the whole process
TESTED = 1_000  # documents that are predicted


def fit(objective: str) -> dict[str, float]:
    """Fit and predict."""
    hierarchy, rng = tree(LEVELS), np.random.default_rng(0)
    words = (FEATURES ** rng.random(DOCUMENTS * WORDS)).astype(np.int32) - 1  # few are frequent, as in texts
    rows = np.repeat(np.arange(DOCUMENTS), WORDS)
    X = sparse.csr_array((np.full(len(words), 0.1), (rows, words)), (DOCUMENTS, FEATURES))
    leaves = torch.from_numpy(rng.choice(hierarchy.leaves.numpy(), DOCUMENTS))
    y = hierarchy.close(torch.nn.functional.one_hot(leaves, hierarchy.num_nodes).bool()).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations to converge
        model = HierarchicalClassifier(hierarchy, objective, max_iter=1).fit(X, y)
    model.predict_sets(X[:TESTED])
    return {"gigabytes": round(memory("VmHWM"), 2), "weights": int(model.coef_.nnz)}


@pytest.mark.parametrize("objective", ["conditional_softmax", "bce"])
def test_many_features_and_labels(benchmark, objective):
    command = [sys.executable, __file__, objective]
    printed = benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout, rounds=1)
    found = json.loads(printed.splitlines()[-1])
    benchmark.extra_info.update(documents=DOCUMENTS, features=FEATURES, labels=sum(LEVELS), **found)
    assert found["gigabytes"] < GIGABYTES


if __name__ == "__main__":
    print(json.dumps(fit(sys.argv[1])))
