"""Hierarchical text classification: objectives, inference rules and metrics over one `Hierarchy`.

The library needs torch and NumPy; `htc.metrics` and `htc.estimator` also need scikit-learn. The commands (train, evaluate,
predict, reproduce), `train`, `load`, `Predictor`, `predict_batch`, `htc.experiment` and `htc.report` need `htc[train]`. The
names below are imported at first use, so that commands start without torch.
"""

from typing import TYPE_CHECKING, Any

from rlkl_htc_common.errors import InputError

if TYPE_CHECKING:
    from htc.batches import predict_batch
    from htc.labels.hierarchy import Hierarchy
    from htc.predictor import Predictor, load
    from htc.training import train

    __version__: str

__all__ = ["Hierarchy", "InputError", "Predictor", "load", "predict_batch", "train"]
MODULES = {
    "Hierarchy": "labels.hierarchy",
    "Predictor": "predictor",
    "load": "predictor",
    "predict_batch": "batches",
    "train": "training",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name == "__version__":
            return import_module("rlkl_htc_common.extras").version_of("htc")
        if name == "hierarchy":
            return import_module("htc.labels.hierarchy")
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"htc.{MODULES[name]}"), name)
