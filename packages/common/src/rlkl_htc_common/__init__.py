"""Code that rlkl and htc share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        if name == "__version__":
            from rlkl_htc_common.extras import version_of

            return version_of("rlkl-htc-common")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
