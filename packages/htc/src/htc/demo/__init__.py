"""A page to try a trained model on: its parts, as functions of probabilities, and what serves it."""

from rlkl_htc_common.extras import require

require("htc[train]", "jinja2", "matplotlib", "safetensors", "transformers")
