"""What reports are made of: statistics over seeds, figures, tables, one page."""

from rlkl_htc_common.extras import require

require("rlkl-htc-common[train]", "jinja2", "matplotlib", "pyyaml", "scipy")
