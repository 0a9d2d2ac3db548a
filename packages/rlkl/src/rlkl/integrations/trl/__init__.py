"""TRL's GRPOTrainer with a KL weighted by the reference's certainty: a drop-in replacement.

    from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer

Needs the extra `rlkl[trl]`. Only the TRL releases that `versions` names are supported. Others are refused: if TRL changed a
hook, training would silently use a uniform KL.
"""

from rlkl.integrations.trl.versions import check_installed

check_installed()

from rlkl.integrations.trl.config import PrioritizedKLConfig  # noqa: E402 (after the check of TRL's version)
from rlkl.integrations.trl.trainer import PrioritizedKLTrainer  # noqa: E402

__all__ = ["PrioritizedKLConfig", "PrioritizedKLTrainer"]
