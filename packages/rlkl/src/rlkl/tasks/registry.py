"""The tasks by name: the one table from which come the choices of `task=`, the tokenizer and the tests."""

from rlkl.tasks.addition import addition
from rlkl.tasks.multiplication import multiplication
from rlkl.tasks.subtraction import subtraction
from rlkl.tasks.task import Task
from rlkl_htc_common.errors import InputError

__all__ = ["TASKS", "Task", "task_named"]

TASKS: dict[str, Task] = {task.NAME: task for task in (addition, subtraction, multiplication)}


def task_named(name: str) -> Task:
    """A task. Raises: InputError if there is none of this name."""
    if name not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, not {name!r}.")
    return TASKS[name]
