"""Files that the readers take, made once per process: what the fuzzer then breaks.

Saved models come without their manifest, which would notice every change before it is read: as models of before it was written.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from htc.datasets import load_custom
from htc.experiment.build import make_objective
from htc.experiment.config import CustomConfig, HeadConfig, TrainConfig, loss_config
from htc.experiment.saved_model import save_model
from htc.models.classifier import Classifier
from rlkl.model import language_model
from rlkl.tasks.registry import task_named
from rlkl_htc_common.manifest import MANIFEST
from rlkl_htc_common.models.encoders import TextEncoder
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import RunDirectory

Files = dict[str, bytes]

TAXONOMY = b"Root\tArts\tScience\nArts\tMusic\tFilm\tBasics\nScience\tBasics\nScience > Basics\tAtoms\n"
LABELS = (["Arts", "Music"], ["Arts", "Film"], ["Science", "Basics", "Atoms"], [["Arts", "Basics"], ["Science"]])
RUN_CONFIG = {"seed": 1, "name": "é", "training": {"rate": 0.1, "steps": [1, 2]}}
DIM = 8  # of the text vectors of the models here


def documents(count: int = 12) -> bytes:
    """JSON lines with labels of the taxonomy."""
    records = ({"token": [f"Text {number}."], "label": LABELS[number % len(LABELS)]} for number in range(count))
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def table(separator: str = ",") -> bytes:
    """A table with columns text, split, area, topic."""
    rows = [["text", "split", "area", "topic"]]
    rows += [[f'"Text {n}."', ("train", "dev", "test")[n % 3], "Arts", ("Music", "Film", "")[n % 3]] for n in range(12)]
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def blurbs() -> Files:
    """The Blurb Genre Collection in its authors' layout."""
    book = "<book>\n<title>T</title>\n<body>Text {} &amp; more</body>\n<topics><d0>Arts</d0><d1>Music</d1></topics>\n</book>\n"
    parts = {
        f"BlurbGenreCollection_EN_{split}.txt": "".join(book.format(split, n) for n in range(2)).encode()
        for split in ("train", "dev", "test")
    }
    return {**parts, "hierarchy.txt": b"Arts\tMusic\nArts\tFilm\nScience\n"}


def files_made_by(make: Callable[[Path], None]) -> Files:
    """What a function writes into a folder, by the path in it."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        make(folder)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MANIFEST]
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def write(files: Files, folder: Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@cache
def encoder() -> TextEncoder:
    """A random BERT of almost nothing, that knows the words of the documents here."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[PAD]", "Text", "."])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    return TextEncoder(BertModel(config), wrapped, max_length=16).eval().requires_grad_(False)


@cache
def encoder_folder() -> Files:
    """That encoder, saved."""
    return files_made_by(encoder().save_pretrained)


@cache
def classifier_folder() -> Files:
    """A model as htc-train saves it, on that encoder, which goes by the name `tiny`."""

    def make(folder: Path) -> None:
        write({"a.taxonomy": TAXONOMY, "documents.jsonl": documents()}, folder / "data")
        dataset = load_custom(folder / "data")
        loss = loss_config("conditional_softmax", stop=True)
        config = TrainConfig(
            dataset=CustomConfig("custom", 0.1, 0.2, 0, dir="data"),
            loss=loss,
            head=HeadConfig(hidden=4, dropout=0.1, standardize=True),
        )
        config.encoder = EncoderConfig(name="tiny", max_length=16, batch_size=32)
        outputs = make_objective(loss, dataset.hierarchy, dataset.targets).num_outputs
        torch.manual_seed(0)
        save_model(folder / "model", config, encoder(), Classifier(None, DIM, 4, outputs), dataset, 0.5, "argmax_end")

    made = files_made_by(make)
    return {name.removeprefix("model/"): content for name, content in made.items() if name.startswith("model/")}


@cache
def language_model_folder() -> Files:
    """A model as rlkl-pretrain saves it, of almost nothing."""

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        sizes = {"layers": 1, "heads": 1, "width": 8, "positions": 512, "dropout": 0.0}
        model = language_model.new_model(task_named("addition"), **sizes, trained_digits=1)  # type: ignore[arg-type]
        language_model.save_model(folder, model)

    return files_made_by(make)


@cache
def run_folder() -> Files:
    """A finished run of RUN_CONFIG."""

    def make(folder: Path) -> None:
        RunDirectory(folder, RUN_CONFIG).write_result(history=[{"step": 1, "loss": 0.5}])
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')

    return files_made_by(make)


class Trained(nn.Module):
    """What the checkpoints are of."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 2) -> (B, 2)."""
        return self.linear(inputs)
