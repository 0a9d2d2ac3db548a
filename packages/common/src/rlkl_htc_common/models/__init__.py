"""Encoders of texts."""

from rlkl_htc_common.extras import require

require("rlkl-htc-common[train]", "safetensors", "tqdm", "transformers")
