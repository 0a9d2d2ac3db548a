import json
import logging

import pytest

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory, config_hash, read_config_file

CONFIG = {"seed": 1, "training": {"lr": 0.1, "epochs": 2}, "tracking": {"mode": "offline"}}


def test_the_hash_knows_what_matters():
    assert config_hash(CONFIG) == config_hash(dict(reversed(CONFIG.items())))
    assert config_hash(CONFIG) == config_hash(CONFIG | {"tracking": {"mode": "online"}, "run_dir": "elsewhere"})
    assert config_hash(CONFIG) != config_hash(CONFIG | {"seed": 2})
    assert config_hash(CONFIG) != config_hash(CONFIG | {"training": {"lr": 0.2, "epochs": 2}})


def test_a_result_says_where_it_comes_from(tmp_path):
    run = RunDirectory(tmp_path / "run", CONFIG)
    assert run.result() is None
    run.write_result(score=0.5)
    result = RunDirectory(tmp_path / "run", CONFIG).result()
    assert result["score"] == 0.5
    assert (result["seed"], result["config_hash"]) == (1, config_hash(CONFIG))
    assert result["versions"]["torch"]
    assert result["wall_seconds"] >= 0
    assert {f.name for f in (tmp_path / "run").iterdir()} == {"config.yaml", "result.json"}, "no temporary file is left"


def test_another_config_does_not_overwrite_a_run(tmp_path):
    RunDirectory(tmp_path / "run", CONFIG).write_result(score=0.5)
    before = (tmp_path / "run/result.json").read_text()
    with pytest.raises(InputError, match=r"holds a run with another config \(different: training\.lr\)"):
        RunDirectory(tmp_path / "run", CONFIG | {"training": {"lr": 0.2, "epochs": 2}})
    assert (tmp_path / "run/result.json").read_text() == before


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunDirectory(tmp_path, CONFIG)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_while_it_wrote_its_config_begins_anew(tmp_path):
    (tmp_path / ".config.yaml.4711").write_text("training:\n  lr")
    (tmp_path / ".lock").touch()
    run = RunDirectory(tmp_path, CONFIG)
    assert run.result() is None
    assert read_config_file(tmp_path / "config.yaml") == CONFIG


@pytest.mark.parametrize("name", [".config.yaml.bak", ".config.yaml", ".config.yaml.", ".thesis.tex.4711", "config.yaml.4711"])
def test_a_hidden_file_of_another_kind_is_no_leftover(name, tmp_path):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunDirectory(tmp_path, CONFIG)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the run directory"):
        RunDirectory(tmp_path / "file" / "run", CONFIG)


def test_result_is_plain_json(tmp_path):
    run = RunDirectory(tmp_path, CONFIG)
    run.write_result(name="é")
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["name"] == "é"


def grown(config, epochs):
    return config | {"training": config["training"] | {"epochs": epochs}}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            grown(CONFIG, 1),
            r"\(different: training.epochs\): training.epochs can be raised, not lowered; choose another run_dir",
        ),
        (grown(CONFIG, 5) | {"seed": 2}, r"\(different: seed, training.epochs\); choose another run_dir"),
        (CONFIG | {"seed": 2}, r"\(different: seed\); choose another run_dir"),
    ],
)
def test_what_grows_only_grows_and_nothing_else_changes(asked, message, tmp_path):
    RunDirectory(tmp_path, CONFIG).write_result(score=0.5)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        RunDirectory(tmp_path, asked, grows="training.epochs")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_run_that_grows_is_not_finished_until_it_is_and_is_another_config_once_locked(tmp_path):
    RunDirectory(tmp_path, CONFIG).write_result(score=0.5)
    run = RunDirectory(tmp_path, grown(CONFIG, 5), grows="training.epochs")
    assert run.result() is None
    assert RunDirectory(tmp_path, CONFIG).result()["score"] == 0.5
    with run.locked():
        with pytest.raises(InputError, match=r"different: training\.epochs"):
            RunDirectory(tmp_path, CONFIG)
        run.write_result(score=0.7)
    assert RunDirectory(tmp_path, grown(CONFIG, 5), grows="training.epochs").result()["score"] == 0.7


def test_a_run_that_became_another_one_in_the_meantime_does_not_grow(tmp_path):
    RunDirectory(tmp_path, CONFIG).write_result(score=0.5)
    one, other = (RunDirectory(tmp_path, grown(CONFIG, epochs), grows="training.epochs") for epochs in (5, 4))
    with one.locked():
        pass
    with pytest.raises(InputError, match="can be raised, not lowered"), other.locked():
        pass


def test_why_a_run_cannot_be_gone_on_with(tmp_path, caplog):
    reasons = {"training.epochs": "there is a reason"}
    name = f"run-{config_hash(CONFIG)}"
    RunDirectory(tmp_path / name, CONFIG).write_result(score=0.5)
    (tmp_path / "run-damaged").mkdir()
    (tmp_path / "run-damaged" / "config.yaml").write_text("[")
    (tmp_path / "run-file").write_text("")
    with pytest.raises(InputError, match=r"\(different: training.epochs\): there is a reason; choose another run_dir"):
        RunDirectory(tmp_path / name, grown(CONFIG, 1), reasons=reasons)
    longer = grown(CONFIG, 5)
    run = RunDirectory(tmp_path / f"run-{config_hash(longer)}", longer, reasons=reasons)
    with caplog.at_level(logging.INFO):
        run.log_runs_not_continued()
    assert caplog.messages == [f"{tmp_path / name} differs in training.epochs only, and is not continued: there is a reason."]
    assert RunDirectory(tmp_path / "named", longer).shorter_runs("training.epochs") == [], "a folder of a name of its own"


def test_the_longest_of_the_shorter_runs_comes_first(tmp_path):
    configs = [grown(CONFIG, epochs) for epochs in (1, 3, 2, 9)] + [grown(CONFIG, 4) | {"seed": 2}]
    for config in configs:
        RunDirectory(tmp_path / f"run-{config_hash(config)}", config).write_result(score=0.5)
    longer = grown(CONFIG, 5)
    found = RunDirectory(tmp_path / f"run-{config_hash(longer)}", longer).shorter_runs("training.epochs")
    assert [run.config["training"]["epochs"] for run in found] == [3, 2, 1]
