"""Models that know the label hierarchy, each beside the encoder that it works with.

| | what it is | at prediction | hierarchy | objective |
|---|---|---|---|---|
| `HiTIN` | a head: the text vector, summed up a coding tree of the labels | the head | any | any |
| `HGCLR` | a term of the training loss: a second view of each text, contrasted | nothing: the baseline's head | any | any |
| `HBGL` | BERT writes the labels level by level; their vectors learn the hierarchy before | a step a level | any | its own |

Any hierarchy is a tree, a forest or a DAG; all three take several paths, endings at inner nodes included.
"""

from htc.models.coding_tree import CodingTree, coding_tree, structural_entropy
from htc.models.hbgl import HBGL, Decoded, SpecialTokens, name_rows
from htc.models.hbgl_global import global_stage
from htc.models.hgclr import HGCLR, LabelGraph, TokenGate, nt_xent
from htc.models.hitin import HiTIN

__all__ = [
    "HBGL",
    "HGCLR",
    "CodingTree",
    "Decoded",
    "HiTIN",
    "LabelGraph",
    "SpecialTokens",
    "TokenGate",
    "coding_tree",
    "global_stage",
    "name_rows",
    "nt_xent",
    "structural_entropy",
]
