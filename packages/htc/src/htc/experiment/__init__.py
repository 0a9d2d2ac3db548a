"""From a config to a model that is trained, saved and loaded again."""

from rlkl_htc_common.extras import require

require("htc[train]", "accelerate", "hydra-core", "safetensors", "transformers")
