"""What tests of htc's entry points share: a small dataset with a tiny encoder, and calls as from the console."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertModel

from rlkl_htc_common.models.encoders import load_encoder
from rlkl_htc_common.models.settings import PACKAGED, EncoderConfig

WORDS = {
    ("Arts", "Music"): "song opera violin melody",
    ("Arts", "Film"): "movie actor camera scene",
    ("Science", "Physics"): "atom energy light force",
    ("Science", "Biology"): "cell gene plant animal",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset of 120 documents and a tiny random encoder."""
    folder = tmp_path_factory.mktemp("place")
    data = folder / "data"
    data.mkdir()
    (data / "labels.taxonomy").write_text("Root\tArts\tScience\nArts\tMusic\tFilm\nScience\tPhysics\tBiology\n")
    generator = torch.Generator().manual_seed(0)
    with (data / "documents.jsonl").open("w") as file:
        for number in range(120):
            path = list(WORDS)[number % 4]
            words = WORDS[path].split()
            picked = torch.randint(len(words), (3 + number % 9,), generator=generator)
            text = " ".join(words[i] for i in picked) + f" number {number}"
            file.write(json.dumps({"token": [text], "label": list(path)}) + "\n")
    torch.manual_seed(0)
    minilm = load_encoder(EncoderConfig(PACKAGED, max_length=256))
    config = BertConfig(
        vocab_size=len(minilm.tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "encoder")
    minilm.tokenizer.save_pretrained(folder / "encoder")
    return folder


def common_arguments(place, loss="conditional_softmax_la"):
    return [
        "dataset=custom",
        f"dataset.dir={place / 'data'}",
        f"encoder.name={place / 'encoder'}",
        f"runs={place / 'runs'}",
        f"cache_dir={place / 'cache'}",
        f"loss={loss}",
        "training.epochs=4",
        "training.batch_size=8",
        "head.hidden=32",
        "encoder.max_length=32",
    ]


def train_in(place, name, loss="conditional_softmax"):
    """Train as from the console. Returns: the run's directory."""
    run = place / name
    arguments = [*common_arguments(place, loss), f"run_dir={run}", "tracking.mode=disabled"]
    done = subprocess.run([sys.executable, "-m", "htc.commands.train", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return run
