"""Hierarchical text classification: objectives, inference rules and metrics over one `Hierarchy`.

The library modules (hierarchy, losses, decoding, metrics, model) need torch and NumPy alone; the entry points (train, evaluate,
predict, reproduce) bring configs, encoders and tracking; `htc.estimator` brings scikit-learn. What is named here is imported
when it is first asked for, so that a command answers before torch is there.
"""

from typing import TYPE_CHECKING, Any

from rlkl_htc_common.errors import InputError

if TYPE_CHECKING:
    from htc.labels.hierarchy import Hierarchy

__all__ = ["Hierarchy", "InputError"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in ("Hierarchy", "hierarchy"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module("htc.labels.hierarchy")
        return module if name == "hierarchy" else module.Hierarchy
