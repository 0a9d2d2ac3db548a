"""An alias of `rlkl.tasks.addition`: the name that the paper's scripts and users' code import."""

import sys

from rlkl.tasks import addition

sys.modules[__name__] = addition  # type: ignore[assignment]
