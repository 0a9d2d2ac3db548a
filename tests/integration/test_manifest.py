"""A saved model of which anything changed is not used: a bit, an end, a file of another model. What was meant is accepted."""

import json
import logging
import random
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import htc.experiment.saved_model
import rlkl.model.language_model
from htc.datasets import load_custom
from htc.experiment.build import make_objective
from htc.experiment.config import CustomConfig, HeadConfig, TrainConfig, loss_config
from htc.models.classifier import Classifier
from rlkl.tasks.registry import task_named
from rlkl_htc_common import manifest
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.models.settings import EncoderConfig

from .fuzzing import good

FLIPS = 6  # random bits of each file, besides the first and the last


def save_classifier(folder, seed, frozen=False):
    """A model as htc-train saves it, with its encoder."""
    good.write({"a.taxonomy": good.TAXONOMY, "documents.jsonl": good.documents()}, folder.parent / "data")
    dataset = load_custom(folder.parent / "data")
    loss = loss_config("conditional_softmax", stop=True)
    config = TrainConfig(
        dataset=CustomConfig("custom", 0.1, 0.2, 0, dir="data"),
        loss=loss,
        head=HeadConfig(hidden=4, dropout=0.1, standardize=True),
    )
    config.encoder = EncoderConfig(name="tiny", max_length=16, frozen=frozen, batch_size=32)
    outputs = make_objective(loss, dataset.hierarchy, dataset.targets).num_outputs
    torch.manual_seed(seed)
    classifier = Classifier(None, good.DIM, 4, outputs)
    htc.experiment.saved_model.save_model(folder, config, good.encoder(), classifier, dataset, 0.5 + seed / 100, "argmax_end")


def save_language_model(folder, seed):
    """A model as rlkl-pretrain saves it."""
    torch.manual_seed(seed)
    sizes = {"layers": 1, "heads": 1, "width": 8, "positions": 512, "dropout": 0.0}
    model = rlkl.model.language_model.new_model(task_named("addition"), **sizes, trained_digits=1 + seed)
    rlkl.model.language_model.save_model(folder, model)


def load_language_model(folder):
    return rlkl.model.language_model.load_model(str(folder))


SAVED = {
    "htc": (save_classifier, htc.experiment.saved_model.load_model, InputError),
    "rlkl": (save_language_model, load_language_model, InputError),
}
FILES = {
    "htc": {
        *("config.json", "hierarchy.json", "head.safetensors", "seen.safetensors"),
        *("encoder/config.json", "encoder/model.safetensors", "encoder/tokenizer.json", "encoder/tokenizer_config.json"),
    },
    "rlkl": {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"},
}
EVERY_FILE = [(package, name) for package, names in FILES.items() for name in (*sorted(names), manifest.MANIFEST)]
EVERY_PACKAGE = pytest.mark.parametrize("package", SAVED)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of each package."""
    place = tmp_path_factory.mktemp("models")
    for package, (save, _, _) in SAVED.items():
        for seed in (0, 1):
            save(place / package / str(seed), seed)
    return place


@pytest.fixture
def model(models, tmp_path):
    """A function that copies the first model of a package."""

    def copy(package):
        return shutil.copytree(models / package / "0", tmp_path / "a model")

    return copy


def refused(package, folder, message):
    """What is said of a model that is not loaded: one line."""
    _, load, error = SAVED[package]
    with pytest.raises(error, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@EVERY_PACKAGE
def test_a_saved_model_is_loaded_as_it_was_with_other_files_beside(package, models, model, caplog):
    folder = model(package)
    digests = json.loads((folder / "manifest.json").read_text())["sha256"]
    assert digests.keys() == FILES[package]
    good.write({"README.md": b"mine", ".DS_Store": b"", "notes/a.json": b"{}", "config.json~": b""}, folder)
    load = SAVED[package][1]
    with caplog.at_level(logging.WARNING):
        again, first = load(folder), load(models / package / "0")
    assert not caplog.records
    if package == "htc":
        vectors = torch.randn(5, good.DIM)
        assert torch.equal(again.probabilities(vectors), first.probabilities(vectors))
        assert torch.equal(again.encoder.embed(["Text ."]), first.encoder.embed(["Text ."]))
    else:
        ours, theirs = again.state_dict(), AutoModelForCausalLM.from_pretrained(folder).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert len(AutoTokenizer.from_pretrained(folder)) == 41


@pytest.mark.parametrize(("package", "name"), EVERY_FILE, ids=lambda value: value.replace("/", "-"))
def test_every_flipped_bit_is_noticed(package, name, model):
    folder = model(package)
    content = (folder / name).read_bytes()
    generator = random.Random(f"{package} {name}")
    for bit in (0, 8 * len(content) - 1, *(generator.randrange(8 * len(content)) for _ in range(FLIPS))):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(flipped)
        error = refused(package, folder, "manifest.json" if name == "manifest.json" else f"changed: {name} is not as manifest")
        assert error.endswith(f"python -m rlkl_htc_common.manifest '{folder}'")
    (folder / name).write_bytes(content)
    SAVED[package][1](folder)


@pytest.mark.parametrize("name", rlkl.model.language_model.packaged_models())
def test_models_that_come_with_the_package_are_checked(name, tmp_path, monkeypatch):
    folder = shutil.copytree(rlkl.model.language_model.PRETRAINED / name, tmp_path / name)
    monkeypatch.setattr("rlkl.model.language_model.PRETRAINED", tmp_path)
    load_language_model(name)
    generator = random.Random(name)
    for file in sorted(FILES["rlkl"]):
        content = (folder / file).read_bytes()
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (folder / file).write_bytes(flipped)
        refused("rlkl", name, f"{file} is not as manifest.json says")
        (folder / file).write_bytes(content)


def test_every_bit_of_a_manifest_counts(tmp_path):
    good.write({"config.json": b"{}", "encoder/config.json": b"[]"}, tmp_path)
    manifest.accept(tmp_path)
    content = (tmp_path / "manifest.json").read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "manifest.json").write_bytes(flipped)
        with pytest.raises(InputError, match=r"manifest\.json is damaged|damaged or was changed"):
            manifest.check_manifest(tmp_path, ["config.json"])


@pytest.mark.parametrize(("package", "name"), EVERY_FILE, ids=lambda value: value.replace("/", "-"))
def test_files_that_are_cut_lengthened_or_gone(package, name, model):
    folder = model(package)
    content = (folder / name).read_bytes()
    for changed in (b"", content[: len(content) // 2], content[:-1], content + b"\n", content + content):
        (folder / name).write_bytes(changed)
        if name == "manifest.json" and changed in (content[:-1], content + b"\n"):
            SAVED[package][1](folder)  # the line ends elsewhere, and the digests are what they were
        else:
            refused(
                package,
                folder,
                r"manifest\.json is damaged" if name == "manifest.json" else f"{name} is not as manifest.json says",
            )
    (folder / name).unlink()
    if name != "manifest.json":
        refused(
            package,
            folder,
            "no model in|has no config.json" if name == "config.json" else f"{name}, which manifest.json names, is missing",
        )


@EVERY_PACKAGE
def test_files_of_another_model(package, models, model):
    folder, other = model(package), models / package / "1"
    differ = [name for name in sorted(FILES[package]) if (folder / name).read_bytes() != (other / name).read_bytes()]
    assert len(differ) == 2
    for name in (*differ, "manifest.json"):
        content = (folder / name).read_bytes()
        shutil.copy(other / name, folder / name)
        refused(
            package,
            folder,
            f"damaged or was changed: {differ[0] if name == 'manifest.json' else name} is not as manifest.json says",
        )
        (folder / name).write_bytes(content)
    for name in (*differ, "manifest.json"):
        shutil.copy(other / name, folder / name)
    SAVED[package][1](folder)


@EVERY_PACKAGE
@pytest.mark.parametrize("over", [False, True], ids=["anew", "over another"])
@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_a_model_that_was_saved_in_part_is_noticed(package, over, at, model, tmp_path, monkeypatch):
    folder = model(package) if over else tmp_path / "new"
    save, load, error = SAVED[package]
    place = {
        "htc": ("htc.experiment.saved_model.save_file", "htc.experiment.saved_model.write_json"),
        "rlkl": ("rlkl.model.language_model.save_weights", "transformers.PreTrainedTokenizerFast.save_pretrained"),
    }[package][at]

    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, killed)
        with pytest.raises(KeyboardInterrupt):
            save(folder, 1)
    with pytest.raises(error, match=r"was not saved to its end; give the command that made it again|has no config\.json"):
        load(folder)
    save(folder, 1)
    load(folder)


@EVERY_PACKAGE
def test_a_model_that_was_changed_on_purpose_is_accepted_by_the_command_in_the_error(package, model):
    folder = model(package)
    config = json.loads((folder / "config.json").read_text())
    config["tuned_threshold" if package == "htc" else "trained_digits"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    program, *arguments = shlex.split(refused(package, folder, "accept it as it is: ").partition("accept it as it is: ")[2])
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{folder}/manifest.json: {len(FILES[package])} files; changed: config.json\n"
    loaded = SAVED[package][1](folder)
    assert (loaded.tuned_threshold if package == "htc" else loaded.config.trained_digits) == 7


@EVERY_PACKAGE
def test_a_model_of_before_there_were_manifests_is_loaded_with_a_warning(package, model, caplog):
    folder = model(package)
    (folder / "manifest.json").unlink()
    SAVED[package][1](folder)
    (record,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert record.startswith(f"{folder} has no manifest.json, so that a damaged file in it goes unnoticed")
    assert record.endswith(f"python -m rlkl_htc_common.manifest '{folder}'")
    assert "none has changed" not in manifest.accept(folder)
    assert "none has changed" in manifest.accept(folder)


def test_a_model_with_its_encoder_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("htc.experiment.saved_model.load_encoder", lambda config: good.encoder())
    save_classifier(tmp_path / "model", 0, frozen=True)
    digests = json.loads((tmp_path / "model/manifest.json").read_text())["sha256"]
    assert digests.keys() == {name for name in FILES["htc"] if "/" not in name}
    htc.experiment.saved_model.load_model(tmp_path / "model")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An encoder's folder, and the folder of a model that was trained on it, kept frozen."""
    folder, load = tmp_path / "tiny", htc.experiment.saved_model.load_encoder
    good.encoder().save_pretrained(folder)
    encoder = load_encoder(EncoderConfig(name=str(folder), max_length=16))
    monkeypatch.setattr(good, "encoder", lambda: encoder)
    monkeypatch.setattr("htc.experiment.saved_model.load_encoder", lambda config: load(replace(config, name=str(folder))))
    monkeypatch.chdir(tmp_path)
    save_classifier(tmp_path / "model", 0, frozen=True)
    return folder, tmp_path / "model"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_every_flipped_bit_of_an_encoder_elsewhere_is_noticed(name, elsewhere):
    encoder, folder = elsewhere
    right = htc.experiment.saved_model.load_model(folder).encoder.embed(["Text ."])
    content, generator = (encoder / name).read_bytes(), random.Random(name)
    for bit in [0, 8 * len(content) - 1, *(generator.randrange(8 * len(content)) for _ in range(20))]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (encoder / name).write_bytes(flipped)
        if name == "model.safetensors":  # whose metadata is of no account
            with suppress(InputError, InputError):
                assert torch.equal(htc.experiment.saved_model.load_model(folder).encoder.embed(["Text ."]), right)
        else:
            assert f"{name} was damaged or changed" in refused("htc", folder, "the encoder 'tiny' is not as it was")
    (encoder / name).write_bytes(content)
    htc.experiment.saved_model.load_model(folder)


def test_an_encoder_elsewhere_that_was_changed_on_purpose_is_accepted_as_the_error_says(elsewhere):
    encoder, folder = elsewhere
    with (encoder / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    assert "take encoder_files out of" in refused("htc", folder, "tokenizer_config.json was damaged or changed")
    config = json.loads((folder / "config.json").read_text())
    del config["encoder_files"]  # as in models of before they were kept
    (folder / "config.json").write_text(json.dumps(config))
    assert "changed: config.json" in manifest.accept(folder)
    htc.experiment.saved_model.load_model(folder)


def test_features_of_an_encoder_that_was_changed_are_not_taken_from_the_cache(elsewhere, tmp_path):
    encoder, _ = elsewhere
    for _ in range(2):
        with (encoder / "tokenizer_config.json").open("a") as file:
            file.write("\n")
        cached_features(load_encoder(EncoderConfig(name=str(encoder), max_length=16)), ["Text"], tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


DIGEST = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}
WRONG = [
    *(b"", b"\0", b"\xff", b"{", b"[]", b"null", b"1", b'"sha256"', b"{}", b'{"sha256": []}', b'{"sha256": 1}', b"[" * 9000),
    *(b'{"sha256": {}}', b'{"sha256": {"config.json": null}}', b'{"sha256": {"config.json": 1}}', b'{"sha256": {"a": ""}}'),
    b'{"sha256": {"config.json": []}}',
]
ELSEWHERE = ["../outside", "/etc/passwd", "a/../../outside", "", ".", "/", "line\nbreak", "\ud800", "escape\x1b[2J", "a\0"]


@pytest.mark.parametrize("content", [*WRONG, *(json.dumps({"sha256": {name: DIGEST}}).encode() for name in ELSEWHERE)])
def test_a_manifest_that_is_none(content, tmp_path, monkeypatch):
    good.write({"model/config.json": b"{}", "outside": b"{}", "model/manifest.json": content}, tmp_path)
    opened = []
    monkeypatch.setattr("rlkl_htc_common.manifest._digest", lambda file: opened.append(file) or "")
    with pytest.raises(InputError, match=r"manifest\.json is damaged|not named in manifest\.json") as caught:
        manifest.check_manifest(tmp_path / "model", ["config.json"])
    assert str(caught.value).isprintable()
    assert all(tmp_path / "model" in file.parents for file in opened)


def test_a_file_that_is_gone_is_missing_for_an_accepted_model_too(model):
    folder = model("htc")
    (folder / "seen.safetensors").unlink()
    assert "gone: seen.safetensors" in manifest.accept(folder)
    refused("htc", folder, "seen.safetensors is missing")


def test_no_device_is_read(tmp_path):
    good.write({"config.json": b"{}", "manifest.json": json.dumps({"sha256": {"endless": DIGEST}}).encode()}, tmp_path)
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"endless, which manifest\.json names, is missing"):
        manifest.check_manifest(tmp_path, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the folder of one saved model"),
        (["a", "b"], "expected the folder of one saved model"),
        (["nowhere"], "nowhere is not the folder of a saved model: it has no config.json."),
        (["run"], "did you mean run/model?"),
    ],
)
def test_what_is_no_model_gets_no_manifest(arguments, message, tmp_path, monkeypatch, capsys):
    good.write({"run/model/config.json": b"{}"}, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["manifest", *arguments])
    with pytest.raises(SystemExit) as stop:
        manifest.main()
    assert (stop.value.code, message in capsys.readouterr().err) == (2, True)
    assert not list(tmp_path.rglob("manifest.json"))


# Cached features.


def test_every_flipped_bit_of_cached_features_is_mended(tmp_path, caplog):
    texts = ["Text", ".", "Text . Text"]
    right = cached_features(good.encoder(), texts, tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    generator = random.Random(0)
    noticed = 0
    for bit in [0, 8 * len(content) - 1, *(generator.randrange(8 * len(content)) for _ in range(60))]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        caplog.clear()
        assert torch.equal(cached_features(good.encoder(), texts, tmp_path), right)
        noticed += "computed again" in caplog.text
        assert ("computed again" in caplog.text) == (file.read_bytes() != flipped), "written anew, where it is damaged"
    assert noticed == 62


def test_cached_features_of_other_texts_and_of_before_digests(tmp_path, caplog):
    ours, theirs = ["Text", "."], [".", "."]
    right = cached_features(good.encoder(), ours, tmp_path / "a")
    cached_features(good.encoder(), theirs, tmp_path / "b")
    (file,), (other,) = (tmp_path / "a").iterdir(), (tmp_path / "b").iterdir()
    file.write_bytes(other.read_bytes())
    assert torch.equal(cached_features(good.encoder(), ours, tmp_path / "a"), right)
    assert "is damaged (its digest is another)" in caplog.text
    htc.experiment.saved_model.save_file({"features": right + 1}, file)
    assert torch.equal(cached_features(good.encoder(), ours, tmp_path / "a"), right)
    assert "is of an earlier version, without a digest" in caplog.text
