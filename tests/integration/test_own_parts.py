"""The steps of docs/how-to/own_objective_or_rule.md, done in a copy, lead to a report with that objective and that rule."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/own_objective_or_rule.md").read_text(encoding="utf-8")


def blocks(tag):
    return re.findall(rf"^```{tag}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def definition(code, start):
    """The function or class in a block, from its first line to the next that is not indented."""
    first, _, rest = code[code.index(start) :].partition("\n")
    return first + "\n" + re.split(r"^(?=\S)", rest, maxsplit=1, flags=re.MULTILINE)[0].rstrip() + "\n"


def edited(file, find, put):
    text = file.read_text()
    assert text.count(find) == 1
    file.write_text(text.replace(find, put))


def test_the_steps_lead_to_a_report(place, tmp_path):
    shutil.copytree(ROOT / "packages/htc/src/htc", tmp_path / "src/htc")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    library = tmp_path / "src/htc"
    of_rule, of_objective = blocks("python")
    rule, objective = blocks("py")
    (yaml,) = blocks("yaml")
    function = definition(of_rule, "def sure_part_of_best_leaf").replace("decoding.argmax_leaf", "argmax_leaf")
    with (library / "decoding/rules.py").open("a") as file:
        file.write(f"\n\n{function}")
    with (library / "losses/binary.py").open("a") as file:
        file.write(f"\n\n{definition(of_objective, 'class DeeperCountsMore')}")
    table = "ALL_RULES: dict[str, NamedRule] = {\n"
    edited(library / "decoding/by_name.py", table, f"{table}    {rule}")
    table = "OBJECTIVES: dict[str, NamedObjective] = {\n"
    edited(library / "settings.py", table, f"{table}    {objective}")
    (tmp_path / "conf/htc/loss/deeper_counts_more.yaml").write_text(yaml)

    outside = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "src"), os.environ.get("PYTHONPATH", "")])}
    outside |= {"RLKL_HTC_CONF": str(tmp_path / "conf")}

    def called(module, *arguments):
        command = [sys.executable, "-m", f"htc.commands.{module}", *map(str, arguments)]
        done = subprocess.run(command, env={**os.environ, **outside}, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (methods,) = re.findall(r"'(\+methods=.*)'", PAGE)
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += ["experiment=hwv", "seeds=[0]", "jobs=1", f"output={tmp_path / 'report'}", f"runs={tmp_path / 'runs'}"]
    arguments += [f"~methods.{name}" for name in ("bce_prior_bias", "leaf_softmax", "conditional_softmax")]
    assert "| deeper counts more |" in called("reproduce", *arguments, "training.epochs=1", methods)
    assert "Inference: sure part of the best leaf." in (tmp_path / "report/report.html").read_text()
    losses = json.loads((tmp_path / "report/summary.json").read_text())["losses"]
    assert list(losses) == ["bce", "conditional_softmax_la", "deeper_counts_more"]
    assert all("sure_part" in run["rules"] for runs in losses.values() for run in runs)
    (model,) = (tmp_path / "runs").glob("htc/hwv/deeper_counts_more-*/model")
    assert called("predict", f"model={model}", "decoder=sure_part", "text=atom").startswith("atom")
