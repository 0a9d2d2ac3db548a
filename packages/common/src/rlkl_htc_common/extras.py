"""Extras: packages that only some parts need, as in `pip install 'htc[train]'`, and the error if they are missing.

The packages of an extra are listed in pyproject.toml only; here they are read from the installed distribution.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution, requires, version

from rlkl_htc_common.errors import InputError

SHOWN = 3  # names in a sentence


class MissingExtraError(InputError, ImportError):
    """Required packages are not installed; the message says how to install them."""


def require(extra: str, *names: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        extra: as pip takes it, such as `htc[train]`.
        names: the required distributions, such as `hydra-core`; default: all of the extra.

    Raises:
        MissingExtraError: if one of them is not installed.
    """
    missing = [name for name in names or sorted(_brought_by(extra)) if not _is_installed(name)]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise MissingExtraError(f"this needs {', '.join(missing[:SHOWN])}{more}, not installed here: pip install '{extra}'")


def version_of(name: str) -> str:
    """The version of an installed distribution; `unknown` if it runs from its source folder, not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _brought_by(extra: str) -> set[str]:
    """The distributions that `name[extra]` requires, also through other extras; none if `name` is not installed."""
    name, _, rest = extra.partition("[")
    try:
        requirements = requires(name) or []
    except PackageNotFoundError:  # it runs from its source folder
        return set()
    found = set()
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        if re.search(rf"extra == ['\"]{re.escape(rest.rstrip(']'))}['\"]", marker):
            other = re.match(r"[\w.-]+(\[[\w.-]+\])?", wanted)
            assert other is not None  # a requirement begins with a name
            found |= _brought_by(other[0]) if other[1] else {other[0]}
    return found


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
