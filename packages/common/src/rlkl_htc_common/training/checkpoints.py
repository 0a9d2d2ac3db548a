"""Checkpoints of a training: weights as safetensors, the rest as tensors and numbers that are loaded with weights_only.

checkpoints/step-00000120/    the last KEEP of these:
    weights.safetensors, state.pt
    best-00000080.safetensors     the weights with the best score so far, where epochs are scored
    crc32.json                    detects a damaged checkpoint; then the one before it is taken
checkpoints/best-00000080.safetensors    the same again, or one that no checkpoint has yet

accelerate's `save_state` does not replace this (tried with 1.15): it writes in place, file by file. Stopped between two files,
it left the weights of step 3 with the optimizer of step 1, and `load_state` took both; it took weights with a flipped bit, too.
What `register_for_checkpointing` adds is unpickled with weights_only=False: a pickle ran its code.
"""

import json
import logging
import os
import random
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises with weights_only, too
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import write_json

log = logging.getLogger(__name__)

KEEP = 2
CHECKSUMS = "crc32.json"
WEIGHTS, STATE = "weights.safetensors", "state.pt"
# What torch and safetensors raise for content that is not what was saved.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
    *(UnpicklingError, SafetensorError),
)
CHUNK = 2**24  # bytes


class Checkpoints:
    """The checkpoints in one folder. Args: folder: created when the first is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, model: nn.Module, state: dict[str, Any], best_step: int | None = None) -> None:
        """Write a checkpoint, complete or not at all, and remove all but the last KEEP.

        Args:
            state: tensors, numbers and containers of them.
            best_step: when `save_best` was called last; all other best weights outside of checkpoints are removed.

        Raises:
            InputError: if there is no room for it, or no right to write; the one before it stays.
        """
        temporary = self.folder / f".step-{step:08d}"
        final = self.folder / f"step-{step:08d}"
        with _input_error_if_unwritable(temporary):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_model(model, str(temporary / WEIGHTS))
            torch.save({**state, "random": random_state()}, temporary / STATE)
            if best_step is not None:
                shutil.copyfile(self._best(best_step), temporary / self._best(best_step).name)
            write_json(temporary / CHECKSUMS, {file.name: _crc32(file) for file in sorted(temporary.iterdir())})
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        for old in self._all()[:-KEEP]:
            shutil.rmtree(old)
        for other in self.folder.glob("best-*.safetensors"):
            if best_step is None or other != self._best(best_step):
                other.unlink()

    def load_last(self, model: nn.Module, device: torch.device) -> dict[str, Any] | None:
        """Load the last checkpoint that is not damaged into the model and the random generators; damaged ones are removed.

        Returns:
            Its state, or None where there is no checkpoint.

        Raises:
            InputError: if there are checkpoints, and all are damaged, or the last is of another training.
        """
        found = self._all()
        intact = [checkpoint for checkpoint in found if _is_intact(checkpoint)]
        if found and not intact:
            raise InputError(f"no checkpoint in {self.folder} can be read; remove that folder to begin this run anew.")
        if not found:
            return None
        for damaged in [checkpoint for checkpoint in found if checkpoint not in intact]:
            log.warning("the checkpoint %s is damaged and was removed; %s is used.", damaged, intact[-1].name)
            shutil.rmtree(damaged, ignore_errors=True)
        with self.told_when_foreign():
            load_model(model, intact[-1] / WEIGHTS, device=_name(device))
            state: dict[str, Any] = torch.load(intact[-1] / STATE, weights_only=True, map_location="cpu")
            set_random_state(state.pop("random"))
        for best in intact[-1].glob("best-*.safetensors"):
            if best.is_symlink():
                continue  # none of ours
            temporary = self.folder / f".{best.name}.{os.getpid()}"
            shutil.copyfile(best, temporary)
            temporary.replace(self.folder / best.name)
        return state

    @contextmanager
    def told_when_foreign(self) -> Iterator[None]:
        """Turn what goes wrong with a checkpoint that is as it was written, but by another training, into a sentence."""
        try:
            yield
        except UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise InputError(
                f"{self.folder}: the last checkpoint does not fit this training ({reason:.200}); remove it to go on from "
                "the one before it, or all to begin this run anew."
            ) from error

    def save_best(self, step: int, model: nn.Module) -> None:
        """Save the best weights; those of before stay until `save`, for a process that is killed in between."""
        temporary = self.folder / ".best.safetensors"
        with _input_error_if_unwritable(temporary):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_model(model, str(temporary))
            temporary.replace(self._best(step))

    def load_best(self, step: int, model: nn.Module, device: torch.device) -> None:
        """Load the best weights, which were saved at this step."""
        with self.told_when_foreign():
            load_model(model, self._best(step), device=_name(device))

    def retire(self, folder: Path) -> None:
        """Keep the last checkpoint in another folder, in place of what is there, and remove this one: the run is finished."""
        found = self._all()
        if found:
            last = folder / found[-1].name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(last, ignore_errors=True)
            found[-1].rename(last)
            for other in Checkpoints(folder)._all():
                if other != last:
                    shutil.rmtree(other)
        self.remove()

    def remove(self) -> None:
        """Remove the folder: the run is finished and its model is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.safetensors"

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir() and not path.is_symlink())


@contextmanager
def _input_error_if_unwritable(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors say about a full disk into one sentence, and remove what was begun."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        raise InputError(
            f"{path.parent}: cannot write a checkpoint ({error}); make room, then give the same command again."
        ) from error


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _is_intact(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is as it was written.

    Only files that lie in its folder are opened, whatever its list of files says.
    """
    try:
        expected = dict(json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8")))
        files = {file.name: file for file in checkpoint.iterdir() if file.is_file() and not file.is_symlink()}
        complete = {WEIGHTS, STATE} <= expected.keys() <= files.keys()
        return complete and all(_crc32(files[name]) == value for name, value in expected.items())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


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
