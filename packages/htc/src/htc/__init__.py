"""Hierarchical text classification: objectives, inference rules and metrics over one `Hierarchy`.

The library modules (hierarchy, losses, decoding, metrics, model) need torch and NumPy alone; the entry points (train, evaluate,
predict, reproduce) bring configs, encoders and tracking; `htc.estimator` brings scikit-learn.
"""

from htc.errors import InputError
from htc.hierarchy import Hierarchy

__all__ = ["Hierarchy", "InputError"]
