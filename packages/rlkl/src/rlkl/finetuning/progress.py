"""Evaluation of a policy during fine-tuning: accuracy, and the probabilities of critical commas."""

import hashlib
import math
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from rlkl.analysis.comma_probabilities import CriticalProbabilities
from rlkl.model.completion import accuracy, sample
from rlkl.model.language_model import fingerprint
from rlkl.settings import AccuracySettings
from rlkl.tasks.registry import Task
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import config_hash, git_commit, make_folder, read_json, versions, write_json


class Progress:
    """Evaluates on the same problems each time.

    Args:
        task: the task.
        trained_digits: N.
        digits: the number of digits in fine-tuning.
        examples: problems in each set.
        how: the kind of operands, and the temperature.
    """

    def __init__(self, task: Task, trained_digits: int, digits: int, examples: int, how: AccuracySettings) -> None:
        self._task, self._temperature = task, how.temperature
        self._problems = {
            name: sample(task, how.operands, number, examples, 0, trained_digits)
            for name, number in (("N", trained_digits), ("longer", digits))
        }
        identical = sample(task, "identical", digits, examples, seed=0)
        self._critical = CriticalProbabilities(task, identical, trained_digits)
        self._all = [*self._problems.values(), identical]

    def scores(self, policy: GPT2LMHeadModel) -> dict[str, float]:
        """Accuracy on N and on more digits, and the probability of critical commas."""
        policy.eval()
        scores = {f"eval/accuracy_{name}": accuracy(policy, of, self._temperature) for name, of in self._problems.items()}
        return scores | self._critical.scores(policy)

    def scores_once(self, policy: GPT2LMHeadModel, folder: Path) -> dict[str, float]:
        """As `scores`, but a model that was evaluated in this way before is not evaluated again.

        Args:
            folder: of the scores that are known, by the hash of all that they depend on. Two processes may work here at a time.
        """
        known_by = self._depends_on(policy)
        file = folder / f"{config_hash(known_by)}.json"
        with suppress(InputError):  # there is none, or it is damaged
            kept = read_json(file, "")
            if kept.get("of") == known_by and isinstance(kept.get("scores"), dict):
                return dict(kept["scores"])
        scores = self.scores(policy)
        if all(map(math.isfinite, scores.values())):
            make_folder(folder)
            write_json(file, {"of": known_by, "scores": scores})
        return scores

    def _depends_on(self, policy: GPT2LMHeadModel) -> dict[str, Any]:
        """The model, the problems with their right answers, how these are measured, and the code that measures."""
        texts = [[self._task.prompt(pair) + self._task.completion(pair) for pair in problems] for problems in self._all]
        return {
            "model": fingerprint(policy),
            "problems": hashlib.sha256(repr(texts).encode()).hexdigest(),
            "trained_digits": self._critical.trained_digits,
            "temperature": self._temperature,
            "device": policy.device.type,
            "versions": versions(),
            "rlkl": version("rlkl"),
            "git_commit": git_commit(),
        }
