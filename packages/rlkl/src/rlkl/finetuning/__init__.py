"""Fine-tuning with reinforcement learning: sampling, advantages, loss, updates."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "accelerate", "transformers")
