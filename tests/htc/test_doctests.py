"""The examples in docstrings say the truth."""

import doctest
import importlib
import pkgutil

import pytest

import htc

MODULES = [
    module.name
    for module in pkgutil.walk_packages(htc.__path__, "htc.")
    if module.name.rpartition(".")[2] not in ("train", "evaluate", "predict", "reproduce", "report", "config")
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_there_are_examples():
    found = [doctest.DocTestFinder().find(importlib.import_module(module)) for module in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) >= 20
