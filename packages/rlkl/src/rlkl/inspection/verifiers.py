"""Who says whether a completion is right: a function of the user's, or the grader of an arithmetic task."""

import importlib
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl_htc_common.errors import InputError

OF_THE_TASK = "task"
Verifier = Callable[[str, str], float]
"""Takes prompt and completion; gives the success: true or false, or a number."""


def verifier_named(name: str, task: Task | None) -> Verifier:
    """A verifier.

    Args:
        name: `module:function`, which is imported, from the working directory, too; or `task`, for the grader of the task that
            a model of rlkl was made for.
        task: that task.

    Raises:
        InputError: there is none of this name.
    """
    if name == OF_THE_TASK:
        if task is None:
            raise InputError(
                f"verifier={OF_THE_TASK} is for models of rlkl's tasks; name a function of yours: module:function."
            )
        return task_verifier(task)
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise InputError(f"verifier must be module:function, or {OF_THE_TASK}, not {name!r}.")
    return checked(name, _imported(name, module, attribute))


def _imported(name: str, module: str, attribute: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise InputError(f"verifier={name}: cannot import {module}: {type(error).__name__}: {_said(error)}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"verifier={name}: {module} has no {attribute}.")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"verifier={name} is no function, but {type(found).__name__}.")
    return found


def checked(name: str, function: Callable[[str, str], Any]) -> Verifier:
    """A function that raises InputError if it fails or answers with no number."""

    def verify(prompt: str, completion: str) -> float:
        try:
            success = function(prompt, completion)
        except Exception as error:
            said = f"{type(error).__name__}: {_said(error)}"
            raise InputError(f"verifier={name} failed on the completion {completion[:80]!r}: {said}") from error
        try:
            number = float(success)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(success, str | bytes) or not math.isfinite(number):
            shown = repr(success)[:60]
            raise InputError(f"verifier={name} must give true, false or a number, not {shown}, for {completion[:80]!r}.")
        return number

    return verify


def task_verifier(task: Task) -> Verifier:
    """The grader of an arithmetic task. Its calls raise InputError for prompts that are none of the task's."""

    def verify(prompt: str, completion: str) -> float:
        return float(task.grade(problem_in(task, prompt), completion))

    return verify


def problem_in(task: Task, prompt: str) -> Operands:
    """The problem that a prompt poses. Raises InputError for one that is none of the task's."""
    numbers = re.findall(r"[0-9]+", prompt)
    if len(numbers) == 2 and max(map(len, numbers)) < 1000:
        operands = Operands(*map(int, numbers))
        if task.prompt(operands) == prompt:
            return operands
    example = task.prompt(Operands(12, 34))
    raise InputError(f"{prompt[:80]!r} is no prompt of {task.PLURAL}, which are like {example!r}; name another verifier.")


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
