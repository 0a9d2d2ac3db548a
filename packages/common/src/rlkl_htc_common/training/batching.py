"""Batches of item numbers, as pure functions of a seed."""

import torch
from torch import Tensor

BUCKET = 50  # batches per sorting by length: enough to save padding, few enough to keep the order random


def epoch_batches(num_items: int, batch_size: int, seed: int, epoch: int, lengths: Tensor | None = None) -> list[Tensor]:
    """The batches of one epoch: every item once, in an order that depends only on seed and epoch.

    Args:
        num_items: how many items there are.
        batch_size: items in a batch; the last one may be smaller.
        seed, epoch: determine the order.
        lengths: (num_items,) if given, a batch holds items of similar length, to save padding.

    Returns:
        For each batch, (b,) int64 item numbers.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(num_items, generator=generator)
    if lengths is None:
        return list(order.split(batch_size))
    sorted_buckets = [bucket[lengths[bucket].argsort(stable=True)] for bucket in order.split(batch_size * BUCKET)]
    batches = [batch for bucket in sorted_buckets for batch in bucket.split(batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def batches_by_length(lengths: Tensor, batch_size: int) -> list[Tensor]:
    """Batches over all items, longest first, so that a lack of memory shows at once. Args: lengths (n,)."""
    return [batch for batch in lengths.argsort(descending=True, stable=True).split(batch_size) if len(batch)]
