"""Datasets: each loads texts, multi-hot targets, index splits and the hierarchy as one `Dataset`."""

from htc.datasets.custom import load_custom
from htc.datasets.dataset import Dataset
from htc.datasets.icd10cm import load_icd10cm
from htc.datasets.published import load_published
from htc.datasets.table import load_table

__all__ = ["Dataset", "load_custom", "load_icd10cm", "load_published", "load_table"]
