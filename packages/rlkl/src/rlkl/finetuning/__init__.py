"""Fine-tuning with reinforcement learning: experience, and what is learnt from it."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "accelerate", "transformers")
