"""Weights in several files."""

import json
from pathlib import Path


def refuse_shards_elsewhere(folder: Path) -> None:
    """The index of weights in several files names these; transformers would open any. Raises ValueError."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        if any(Path(name).name != name for name in names):
            raise ValueError(f"{index.name} names files elsewhere")
