"""Training: loop, checkpoints, batches."""

from rlkl_htc_common.extras import require

require("rlkl-htc-common[train]", "accelerate", "safetensors", "tqdm")
