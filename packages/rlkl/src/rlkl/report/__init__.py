"""The report of a reproduction: how weightings of the KL compare."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "jinja2", "matplotlib", "pyyaml", "scipy")
