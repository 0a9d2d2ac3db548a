"""The language model: a small GPT-2 over characters, with a critic if an algorithm needs one."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "safetensors", "transformers")
