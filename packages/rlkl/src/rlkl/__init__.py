"""Reinforcement learning with a KL penalty that is weighted by the reference's certainty."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlkl.tasks import addition as addition

    __version__: str
else:

    def __getattr__(name: str) -> str:
        if name == "__version__":
            from rlkl_htc_common.extras import version_of

            return version_of("rlkl")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
