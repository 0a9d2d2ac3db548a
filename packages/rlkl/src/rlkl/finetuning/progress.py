"""Evaluation of a policy during fine-tuning: accuracy, and the probabilities of critical commas."""

from transformers import GPT2LMHeadModel

from rlkl.analysis.comma_probabilities import CriticalProbabilities
from rlkl.model.completion import accuracy, sample
from rlkl.settings import AccuracySettings
from rlkl.tasks.registry import Task


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
        self._temperature = how.temperature
        self._problems = {
            name: sample(task, how.operands, number, examples, 0, trained_digits)
            for name, number in (("N", trained_digits), ("longer", digits))
        }
        self._critical = CriticalProbabilities(task, sample(task, "identical", digits, examples, seed=0), trained_digits)

    def scores(self, policy: GPT2LMHeadModel) -> dict[str, float]:
        """Accuracy on N and on more digits, and the probability of critical commas."""
        policy.eval()
        scores = {f"eval/accuracy_{name}": accuracy(policy, of, self._temperature) for name, of in self._problems.items()}
        return scores | self._critical.scores(policy)
