"""Runs: their directories, their records, and many of them at once."""

from rlkl_htc_common.extras import require

require("rlkl-htc-common[train]", "pyyaml")
