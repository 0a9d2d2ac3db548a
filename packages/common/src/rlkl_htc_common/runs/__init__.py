"""Runs: directories, tracking, and sweeps."""

from rlkl_htc_common.extras import require

require("rlkl-htc-common[train]", "pyyaml")
