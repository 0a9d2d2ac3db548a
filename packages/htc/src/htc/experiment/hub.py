"""A trained model as those of the Hugging Face hub: saved with its card, pushed, and loaded by its name."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file

from htc.experiment.saved_model import ENCODER, RESULT, SavedModel, copy_model
from htc.report.model_card import model_card, with_intervals
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import read_json

PER_DOCUMENT = "documents.safetensors"  # in a run's directory: the scores of each test document
OF_A_MODEL = ("*.json", "*.safetensors", "README.md", f"{ENCODER}/*")


class HubModel(ModelHubMixin):
    """What a model has for the hub: huggingface_hub's mixin, with our files.

    Attributes:
        model: the model.
        folder: where it was loaded from, None if from nowhere.
    """

    _hub_mixin_config: dict[str, Any] | None = {}  # noqa: RUF012 - a config of the mixin's; the model has its own

    model: SavedModel
    folder: Path | None

    @classmethod
    @abstractmethod
    def from_folder(
        cls,
        folder: Path,
        decoder: str | None = None,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        temperature: str | None = None,
    ) -> Self:
        """Load a model from a folder. Args: those of `htc.load`."""

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The result of its training, as in result.json, with intervals of the test scores; None if it was not found.

        Raises:
            InputError: if the file is damaged.
        """
        run = None if self.folder is None else self.folder.parent if _is_in_a_run(self.folder) else self.folder
        if run is None or not (run / RESULT).exists():
            return None
        result = read_json(run / RESULT, "train the model again, or remove it")
        if run == self.folder or not (run / PER_DOCUMENT).exists():
            return result
        try:
            return with_intervals(result, load_file(run / PER_DOCUMENT)) | {"run_dir": str(run)}
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise InputError(f"{run}: {RESULT} or {PER_DOCUMENT} is damaged ({problem}); train the model again.") from error

    def save_pretrained(self, save_directory: str | Path, *, include_encoder: bool = False, **push: Any) -> str | None:
        """Write the model to a folder, for `htc.load` and `from_pretrained`, with its card in README.md.

        A card that is there already stays if it is of the same model.

        Args:
            save_directory: the folder; files of a model that is in it are replaced.
            include_encoder: save a frozen encoder with the model. Without it, a frozen encoder goes by its name, and is
                compared with the fingerprint of its weights when the model is loaded.
            push: of huggingface_hub's `ModelHubMixin.save_pretrained`: `push_to_hub=True` and what `push_to_hub` takes.

        Returns:
            The address on the hub if it was pushed.

        Raises:
            InputError: if the model is no longer where it was loaded from, or the folder cannot be written.
        """
        folder, source = Path(save_directory), self.folder
        include_encoder = include_encoder or bool((push.get("model_card_kwargs") or {}).get("include_encoder"))
        if source is None:
            raise InputError("the model was loaded from no folder, so that there is nothing to copy; load it with htc.load.")
        if folder.resolve() == source.resolve():
            raise InputError(f"{folder} is where the model was loaded from; save it to another folder.")
        card = folder / "README.md"
        same = card.exists() and _same_file(folder / "head.safetensors", source / "head.safetensors")
        result = None if self.result is None else {key: value for key, value in self.result.items() if key != "run_dir"}
        copy_model(source, folder, self.model.encoder if include_encoder else None, result, self.model.calibration)
        if not same:
            self.generate_model_card(include_encoder=include_encoder).save(card)
        if not push.pop("push_to_hub", False):
            return None
        return self.push_to_hub(push.pop("repo_id", None) or folder.name, include_encoder=include_encoder, **push)

    def push_to_hub(self, repo_id: str, *, include_encoder: bool = False, **options: Any) -> str:
        """Push the model and its card to the Hugging Face hub.

        Args:
            repo_id: its name there, "USER/NAME".
            include_encoder: see `save_pretrained`; needed for a frozen encoder that is a folder on this machine.
            options: of huggingface_hub's `ModelHubMixin.push_to_hub`: private, token, commit_message and others.

        Returns:
            The address of the commit.

        Raises:
            InputError: for an encoder that nobody else could load; for a name, a login or a network with which it fails.
        """
        encoder = self.model.settings["encoder"]
        if encoder["frozen"] and not (include_encoder or self._has_encoder()) and Path(encoder["name"]).is_dir():
            raise InputError(
                f"the encoder {encoder['name']!r} is a folder on this machine, where others cannot load it; push it with the "
                "model: include_encoder=True."
            )
        card = {**(options.pop("model_card_kwargs", None) or {}), "include_encoder": include_encoder}
        try:
            return super().push_to_hub(repo_id, model_card_kwargs=card, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot push to {repo_id!r} on the hub: {first_line(error)}") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a model from a folder, or from the Hugging Face hub by its name.

        Args:
            pretrained_model_name_or_path: the folder, or the name, "USER/NAME".
            options: `decoder`, `batch_size`, `device` and `temperature`, see `load`; those of huggingface_hub's mixin:
                revision, token, cache_dir, force_download, local_files_only.

        Raises:
            InputError: if there is no such model, or it is damaged.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            return cls.from_folder(Path(pretrained_model_name_or_path), **_of_predictor(options))
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except (OSError, ValueError) as error:
            name = str(pretrained_model_name_or_path)
            raise InputError(f"{name!r} is no folder here, and cannot be had from the hub: {first_line(error)}") from error

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        of_hub = {key: options[key] for key in ("revision", "cache_dir", "force_download", "local_files_only", "token")}
        folder = Path(snapshot_download(model_id, allow_patterns=list(OF_A_MODEL), **of_hub))
        return cls.from_folder(folder, **_of_predictor(options))

    def generate_model_card(self, include_encoder: bool = False) -> ModelCard:
        """The model's card, from its result. Args: include_encoder: whether a frozen encoder is saved with it."""
        return model_card(self.model.hierarchy, self.model.settings, self.result, include_encoder or self._has_encoder())

    def _has_encoder(self) -> bool:
        return self.folder is not None and (self.folder / ENCODER).is_dir()


def _of_predictor(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in ("decoder", "batch_size", "device", "temperature") if key in options}


def _is_in_a_run(folder: Path) -> bool:
    return folder.name == "model" and (folder.parent / "config.yaml").exists()


def _same_file(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
