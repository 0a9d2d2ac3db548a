"""`cached_tensor`: what an object computes of itself once, for training as well."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class cached_tensor(cached_property[T]):  # noqa: N801 - as the one of functools
    """A `cached_property` that is computed outside of `torch.inference_mode`, wherever it is first asked for.

    A tensor that is made in inference mode cannot take part in training later. So whoever predicts first could not train.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        super().__init__(torch.inference_mode(False)(compute))
