"""The report of a reproduction: which objective wins, under which metric and rule."""

from rlkl_htc_common.extras import require

require("htc[train]", "jinja2", "matplotlib", "pyyaml")
