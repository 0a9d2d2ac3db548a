"""Datasets: each loads texts, label sets, index splits and the hierarchy as one `Dataset`."""

from htc.datasets.attack import load_attack
from htc.datasets.custom import load_custom
from htc.datasets.dataset import Dataset
from htc.datasets.gene_ontology import load_gene_ontology
from htc.datasets.icd10cm import load_icd10cm
from htc.datasets.published import load_published
from htc.datasets.table import load_table
from htc.datasets.wordnet import load_wordnet

__all__ = [
    "Dataset",
    "load_attack",
    "load_custom",
    "load_gene_ontology",
    "load_icd10cm",
    "load_published",
    "load_table",
    "load_wordnet",
]
