"""The configs of a command, in which its texts are no choices of groups.

One command may have a key that is a text, another a group of that name: `htc-predict model=FOLDER`, `htc-train model=hitin`. To
Hydra every key is a choice wherever its folder of configs has a group of that name.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath


class CommandRepository(ConfigRepository):
    """Hydra's, without some groups. It goes to other processes with the command's jobs. Args: texts: names of no groups."""

    def __init__(self, texts: Collection[str], config_search_path: ConfigSearchPath) -> None:
        self.texts = frozenset(texts)
        super().__init__(config_search_path)

    def group_exists(self, config_path: str) -> bool:
        """Whether there is a group of this name, for this command."""
        return config_path not in self.texts and super().group_exists(config_path)


@contextmanager
def texts_are_no_groups(texts: Collection[str]) -> Iterator[None]:
    """Let Hydra compose so inside. Args: texts: the command's keys whose values are texts."""
    loader: Any = config_loader_impl
    before = loader.ConfigRepository
    loader.ConfigRepository = partial(CommandRepository, texts)
    try:
        yield
    finally:
        loader.ConfigRepository = before
