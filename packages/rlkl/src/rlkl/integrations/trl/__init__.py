"""TRL's GRPOTrainer with a KL that is weighted by how certain the reference is: one class in place of another.

    from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer

Needs the extra `rlkl[trl]`. The hooks were tried with the releases of TRL that `versions` names; others are refused, since a
hook that TRL has moved away from would train with a uniform KL and say nothing.
"""

from rlkl.integrations.trl.versions import check_installed

check_installed()

from rlkl.integrations.trl.config import PrioritizedKLConfig  # noqa: E402 (TRL is imported once its version is known)
from rlkl.integrations.trl.trainer import PrioritizedKLTrainer  # noqa: E402

__all__ = ["PrioritizedKLConfig", "PrioritizedKLTrainer"]
