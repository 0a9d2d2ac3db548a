import json

import pytest

from common.errors import InputError
from common.runs import RunDirectory, config_hash

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


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the run directory"):
        RunDirectory(tmp_path / "file" / "run", CONFIG)


def test_result_is_plain_json(tmp_path):
    run = RunDirectory(tmp_path, CONFIG)
    run.write_result(name="é")
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["name"] == "é"
