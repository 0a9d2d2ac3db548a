"""Checkpoints of a training: weights as safetensors, the rest as tensors and numbers that are loaded with weights_only.

checkpoints/step-00000120/weights.safetensors, state.pt     the last KEEP of these
checkpoints/best-00000080.safetensors                       the weights with the best score so far
"""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn

KEEP = 2


class Checkpoints:
    """The checkpoints in one folder. Args: folder: created when the first is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, model: nn.Module, state: dict[str, Any]) -> None:
        """Write a checkpoint, complete or not at all, and remove all but the last KEEP."""
        temporary = self.folder / f".step-{step:08d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_model(model, str(temporary / "weights.safetensors"))
        torch.save({**state, "random": random_state()}, temporary / "state.pt")
        final = self.folder / f"step-{step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in self._all()[:-KEEP]:
            shutil.rmtree(old)

    def load_last(self, model: nn.Module, device: torch.device) -> dict[str, Any] | None:
        """Load the last checkpoint into the model and the random generators; its state, or None where there is none."""
        found = self._all()
        if not found:
            return None
        load_model(model, found[-1] / "weights.safetensors", device=_name(device))
        state = torch.load(found[-1] / "state.pt", weights_only=True, map_location="cpu")
        set_random_state(state.pop("random"))
        return state

    def save_best(self, step: int, model: nn.Module) -> None:
        """Save the best weights; those of before stay until `keep_best`, for a process that is killed in between."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".best.safetensors"
        save_model(model, str(temporary))
        temporary.replace(self._best(step))

    def keep_best(self, step: int) -> None:
        """Remove all best weights but those of a step."""
        for other in self.folder.glob("best-*.safetensors"):
            if other != self._best(step):
                other.unlink()

    def load_best(self, step: int, model: nn.Module, device: torch.device) -> None:
        """Load the best weights, which were saved at this step."""
        load_model(model, self._best(step), device=_name(device))

    def remove(self) -> None:
        """Remove the folder: the run is finished and its model is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.safetensors"

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def _name(device: torch.device) -> str:
    """A device as safetensors calls it: accelerate numbers CPUs where there are several processes."""
    return "cpu" if device.type == "cpu" else str(device)


def random_state() -> dict[str, Any]:
    """The state of every random generator, in types that weights_only loads."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda"]])
