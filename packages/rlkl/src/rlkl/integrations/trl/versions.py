"""The supported versions of TRL."""

import sys
from importlib.metadata import PackageNotFoundError, version

from rlkl_htc_common.errors import InputError

OLDEST, NEWEST = (1, 12), (1, 16)  # tested releases, inclusive


def minor(text: str) -> tuple[int, int]:
    """(1, 16) of `1.16.0`, and of `1.16.0.dev0`."""
    major, second, *_ = text.split(".")
    return int(major), int(second)


def check_installed() -> None:
    """Raise ImportError if TRL is missing or has an untested version."""
    supported = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    try:
        installed = version("trl")
    except PackageNotFoundError:
        raise ImportError(f"rlkl.integrations.trl needs TRL {supported}: pip install 'rlkl[trl]'.") from None
    if not OLDEST <= minor(installed) <= NEWEST or "dev" in installed:
        raise ImportError(
            f"rlkl.integrations.trl supports TRL {supported}, but TRL {installed} is installed. It depends on how TRL computes "
            "its loss, which may differ there. Install a supported release: pip install 'rlkl[trl]'."
        )


def fused_lm_head() -> bool:
    """Whether this TRL computes log-probabilities without logits: from 1.15."""
    return minor(version("trl")) >= (1, 15)


def check_unchanged(trainer: type) -> None:
    """Raise InputError if Unsloth is imported: it replaces the code of TRL's trainers.

    Args:
        trainer: TRL's class, as imported.
    """
    if "unsloth" in sys.modules or not trainer.__module__.startswith("trl."):
        raise InputError(
            "Unsloth is imported. It replaces the code of TRL's GRPOTrainer, so that the KL would not be weighted. "
            "Run without Unsloth."
        )
