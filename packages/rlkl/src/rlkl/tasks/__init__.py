"""Arithmetic written out on scratchpads: addition, subtraction, multiplication. `rlkl.tasks.addition` is the task itself."""

from rlkl.tasks.addition import addition
from rlkl.tasks.multiplication import multiplication
from rlkl.tasks.subtraction import subtraction

__all__ = ["addition", "multiplication", "subtraction"]
