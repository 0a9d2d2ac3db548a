"""HBGL's global stage: label vectors that know the hierarchy, before any text is read; see `htc.models.hbgl`.

The labels are one sequence behind [CLS], which stands for the root. Parents and children see each other, and nothing else, not
even themselves. Some labels are replaced by [MASK]; at each, the label that was there is to be found among all.

Source: Jiang et al., EMNLP 2022, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.models.hbgl import HBGL, Bert, check_bert, embed, run
from htc.models.hgclr import MOST_LABELS
from rlkl_htc_common.errors import InputError


def global_stage(
    model: HBGL,
    bert: Bert,
    steps: int = 300,
    learning_rate: float = 1e-3,
    share: tuple[float, float] = (0.15, 0.15),
    copies: int = 32,
    new_transform: bool = False,
    seed: int = 0,
) -> list[float]:
    """Train the label vectors on the hierarchy; BERT, with its dropout, stays as it is.

    The authors have 300 steps at 1e-3 for WOS, 1,000 at 1e-4 for NYT, 100 at 1e-3 for RCV1.

    Args:
        share: of labels that are masked, at the first step and at the last.
        copies: how many maskings a step has; memory grows with it and with the square of the number of labels.
        new_transform: train the model's transform, too: for one with random weights, from which nothing can be read.
        seed: of the maskings. Dropout draws from torch's own generator.

    Returns:
        The loss of each step.

    Raises:
        InputError: for more labels than a (C, C) matrix fits into memory; for an encoder that is no BERT.
    """
    check_bert(bert)
    if model.hierarchy.num_nodes > MOST_LABELS:
        raise InputError(f"the global stage of HBGL would not fit into memory: at most {MOST_LABELS} labels do.")
    generator = torch.Generator().manual_seed(seed)
    learned = [model.rows, *(model.transform.parameters() if new_transform else [])]
    optimizer = torch.optim.AdamW(learned, lr=learning_rate, weight_decay=0.0)
    modes = [(module, module.training) for module in (*bert.modules(), *model.modules())]
    bert.train()
    model.train()
    losses = []
    for step in range(steps):
        masked_share = share[0] + (share[1] - share[0]) * step / max(1, steps - 1)
        masked = torch.rand(copies, model.hierarchy.num_nodes, generator=generator) < masked_share
        if masked.any():
            loss = global_loss(model, bert, masked.to(model.rows.device))
            for parameter, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
                parameter.grad = gradient
            optimizer.step()
            losses.append(loss.item())
    optimizer.zero_grad()
    for module, training in modes:
        module.training = training
    return losses


def global_loss(model: HBGL, bert: Bert, masked: Tensor) -> Tensor:
    """Binary cross-entropy over all labels, mean over masked places. Args: masked (R, C) bool, some true. Returns: a scalar.

    The logits have no bias, unlike those of the local stage.
    """
    words = bert.embeddings.word_embeddings.weight
    labels = torch.where(masked[..., None], words[model.tokens.mask], model.rows)  # (R, C, d)
    sequence = torch.cat([words[model.tokens.cls].expand(len(masked), 1, -1), labels], 1)
    positions = torch.cat([model.depth.new_zeros(1), model.depth])[None]
    hidden = run(bert, embed(bert, sequence, positions, token_type=0), neighbours(model.hierarchy)[None].to(masked.device))
    logits = model.transform(hidden[:, 1:][masked]) @ model.rows.T  # (places, C)
    return F.binary_cross_entropy_with_logits(logits, masked_targets(masked, model.hierarchy).to(logits.dtype))


def neighbours(hierarchy: Hierarchy) -> Tensor:
    """Who sees whom in the global stage. Returns: (1 + C, 1 + C) bool, symmetric, the root first."""
    sees = torch.zeros((1 + hierarchy.num_nodes,) * 2, dtype=torch.bool)
    parent, child = hierarchy.edges + 1
    top = torch.ones(hierarchy.num_nodes, dtype=torch.bool).index_fill(0, child - 1, False).nonzero()[:, 0] + 1
    sees[parent, child] = True
    sees[0, top] = True
    return sees | sees.T


def masked_targets(masked: Tensor, hierarchy: Hierarchy) -> Tensor:
    """What may be at each masked place: the label that was there, and, for a leaf, the other masked leaves of the same parents,
    since what they see is the same.

    Args: masked (R, C) bool. Returns: (places, C) bool, in the order of `masked.nonzero()`.
    """
    groups = [parents if leaf else (-1 - node,) for node, (parents, leaf) in enumerate(_kinds(hierarchy))]
    number = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    group = torch.tensor([number[of_label] for of_label in groups], device=masked.device)
    row, label = masked.nonzero(as_tuple=True)
    return (group[label][:, None] == group) & masked[row]


def _kinds(hierarchy: Hierarchy) -> list[tuple[tuple[int, ...], bool]]:
    """For each label its parents, sorted, and whether it is a leaf."""
    return [(tuple(sorted(above)), leaf) for above, leaf in zip(hierarchy.parents, hierarchy.is_leaf.tolist(), strict=True)]
