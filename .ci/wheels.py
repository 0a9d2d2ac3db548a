"""Test the wheels: build them, install only them into a fresh environment, and use them in an empty folder.

Run it with `make test-wheels`. It tests the packages first without extras, then with extras, on settings that take seconds.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"common": "rlkl_htc_common", "htc": "htc", "rlkl": "rlkl"}
CONF = {"conf/dashboards": "rlkl_htc_common", "conf/htc": "htc", "conf/rlkl": "rlkl"}
CONSTRAINTS = ["-c", str(ROOT / "constraints.txt")]
NOT_OURS = ("PYTHONPATH", "RLKL_HTC_CONF", "VIRTUAL_ENV")  # environment variables to remove
QUIETLY = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
DOCUMENTS = [
    ("The violin sings, {}.", "Arts", "Music"),
    ("The actor weeps, {}.", "Arts", "Film"),
    ("Heat flows, {}.", "Science", ""),
]
MINE = {  # a user's folder of configs, each based on one of the package
    "penalty/mine.yaml": "defaults: [prioritized, _self_]\nbeta: 7\n",
    "experiment/mine.yaml": "# @package _global_\ndefaults: [penalties, _self_]\noutput: outputs/mine\n",
}
# Modules of the base package that need an extra: importing them names it. Commands name it when they are called.
WITH_EXTRA = r"""(htc\.(batches|demo|experiment|predictor|report|scoring\.coverage|training)
    |rlkl\.(finetuning|inspection|integrations\.\w+|model)
    |rlkl\.(report|rollout)
    |rlkl\.analysis\.(?!critical_tokens)|rlkl_htc_common\.(manifest|models|report|runs|training))\b"""
COMMANDS = r"(htc|rlkl)\.commands\.|rlkl_htc_common\.(cli|commands|dashboards)\b"
IMPORTS = f"""
import importlib, pkgutil, re
for name in ("htc", "rlkl", "rlkl_htc_common"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + ".", onerror=lambda name: None):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if not re.match({COMMANDS!r}, module.name):
                assert re.match({WITH_EXTRA!r}, module.name, re.VERBOSE), (module.name, error)
                assert "pip install '" in str(error), (module.name, error)
"""
SCRIPTS = {
    "htc": ("htc-train", "htc-evaluate", "htc-predict", "htc-demo", "htc-reproduce"),
    "rlkl": (
        "rlkl-pretrain",
        "rlkl-finetune",
        "rlkl-evaluate",
        "rlkl-analyze",
        "rlkl-inspect",
        "rlkl-reproduce",
        "rlkl-reproduce-llm",
    ),
}
MODULES = {
    "htc[train]": "htc.commands.train",
    "rlkl[train]": "rlkl.commands.finetune",
    "rlkl-htc-common[dashboards]": "rlkl_htc_common.dashboards",
    "rlkl-htc-common[train]": "rlkl_htc_common.manifest",
}
TABLE = ("dataset=table", "dataset.file=documents.csv")
TINY_HTC = ("training.epochs=1", "head.hidden=16")
TINY_RL = ("algorithm.iterations=1", "algorithm.episodes=4", "algorithm.minibatch_size=4", "evaluation_examples=2")
TWO = ("~methods.bce", "~methods.bce_prior_bias", "~methods.conditional_softmax_la")  # of five methods
HTC_GRID = (*TWO, "seeds=[0]", "dataset.max_documents=300")
OPEN_PAGE = """
import subprocess, sys, urllib.request
command = [sys.prefix + "/bin/htc-demo", "model=saved", "port=0"]
page = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = page.stdout.readline().split()[0]
assert b"htc-demo" in urllib.request.urlopen(address).read()
page.terminate()
assert page.wait(30) == 143
"""
WITH_EVERYTHING = (
    ("htc-train", *TABLE, *TINY_HTC),
    ("htc-predict", "text=A violin in the park"),
    ("htc-predict", "input=documents.csv", "output=labelled.parquet"),
    ("python", "-c", "import htc; htc.train('documents.csv', training={'epochs': 1}).save_pretrained('saved')"),
    ("python", "-c", "import htc; htc.load('saved', device='cpu').predict(['A violin in the park'])"),
    ("python", "-c", OPEN_PAGE),
    ("htc-evaluate", *TABLE, "split=test", "model={htc_model}"),
    ("htc-reproduce", *HTC_GRID, *TINY_HTC),
    ("rlkl-pretrain", "trained_digits=1", "training.epochs=1", "training.examples_per_epoch=16", "evaluation_examples=2"),
    ("rlkl-finetune", *TINY_RL),
    ("rlkl-evaluate", "model={rl_model}", "digits=[2]", "operands=[varying]", "examples=2", "show=1"),
    ("rlkl-analyze", "model={rl_model}", "reference=addition-n5", "examples=4", "problems=1", "samples=1"),
    ("rlkl-inspect", "model={rl_model}", "before=addition-n5", "problems=1", "least=2", "verifier=task", "output=inspection"),
    ("rlkl-finetune", "--config-dir", "my conf", "penalty=mine", "seed=1", *TINY_RL),
    ("rlkl-reproduce", "--config-dir", "my conf", "experiment=mine", "seeds=[0]", *TINY_RL, "examples=4"),
    ("python", "-m", "rlkl_htc_common.dashboards"),
    ("python", "-m", "rlkl_htc_common.manifest", "{htc_model}"),
)


class Place:
    """An empty folder with its own environment. Attributes: passed: the number of commands that passed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.passed = folder / "empty", folder / "venv/bin", 0
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.environment = {key: value for key, value in os.environ.items() if key not in NOT_OURS} | QUIETLY

    def install(self, *requirements: str) -> None:
        """Install requirements with pip."""
        started = time.monotonic()
        subprocess.run([self.bin / "python", "-m", "pip", "install", "-qq", *CONSTRAINTS, *requirements], check=True)
        print(
            f"installed {' '.join(Path(each).name for each in requirements)} in {time.monotonic() - started:.0f} s", flush=True
        )

    def run(self, *command: str, code: int = 0, says: str = "") -> None:
        """Run a command; exit unless its exit code is `code` and its output has `says` (if `code` is not 0: the last line)."""
        started = time.monotonic()
        models = {
            name: self._last(pattern) for name, pattern in (("htc_model", "htc/table/*"), ("rl_model", "rlkl/finetune/*"))
        }
        words = [
            word.format(**models) if word in ("{htc_model}", "model={htc_model}", "model={rl_model}") else word
            for word in command
        ]
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = re.sub(r"\s+", " ", " ".join(words))[:100]
        if done.returncode != code or says not in (done.stderr.splitlines()[-1] if code else done.stdout):
            sys.exit(f"{done.stdout}{done.stderr}\nfailed: {shown}: exit code {done.returncode}, not {code} with {says!r}")
        self.passed += 1
        print(f"{time.monotonic() - started:5.1f} s  {shown}", flush=True)

    def _last(self, pattern: str) -> str:
        found = sorted(self.folder.glob(f"runs/{pattern}/model"), key=lambda folder: folder.stat().st_mtime)
        return str(found[-1]) if found else ""


def build(folder: Path) -> dict[str, str]:
    """Build each package's sdist, and the wheel from it. Returns: package -> wheel (which holds the configs)."""
    wheels = {}
    for source, package in PACKAGES.items():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "build", "--quiet", ROOT / "packages" / source, "--out-dir", folder], check=True)
        (wheel,) = folder.glob(f"{package}-*.whl")
        wheels[package] = str(wheel)
        names = set(zipfile.ZipFile(wheel).namelist())
        for conf in (conf for conf, owner in CONF.items() if owner == package):
            files = [file.relative_to(ROOT / conf) for file in (ROOT / conf).rglob("*.yaml")]
            assert {f"{package}/conf/{file}" for file in files} <= names, f"{wheel} lacks configs"
        assert f"{package}/py.typed" in names
        assert any(name.endswith("licenses/LICENSE") for name in names)
    return wheels


def check_base(place: Place) -> None:
    """Check the packages without extras: what works, and the errors that name a missing extra."""
    place.run("python", "-c", IMPORTS)
    for file in (ROOT / "README.md", *(ROOT / "packages").glob("*/README.md")):
        for block in re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), flags=re.DOTALL):
            if "rlkl.integrations" not in block:
                place.run("python", "-c", block)
    for package, scripts in SCRIPTS.items():
        place.run("python", "-c", f"import {package}; assert {package}.__version__[0].isdigit()")
        for script in scripts:
            place.run(script, code=2, says=f"pip install '{package}[train]'")
            place.run(script, "--version", says=f"{package} ")
    for extra, module in MODULES.items():
        place.run("python", "-m", module, code=2, says=f"pip install '{extra}'")


def check_train(place: Place) -> None:
    """Check the errors of commands that need more than the extra `train`."""
    place.run("htc-train", code=2, says="pip install 'htc[icd10]'")
    place.run("htc-train", *TABLE, code=2, says="pip install 'htc[minilm]'")
    for package, script in (("htc", "htc-train"), ("rlkl", "rlkl-finetune")):
        place.run(
            script, "--multirun", "hydra/launcher=submitit_slurm", "seed=0,1", code=2, says=f"pip install '{package}[cluster]'"
        )
    place.run("htc-demo", code=2, says="pip install 'htc[demo]'")
    place.run("python", "-m", "rlkl_htc_common.dashboards", code=2, says="pip install 'rlkl-htc-common[dashboards]'")


def main() -> None:
    """Build, install, run."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheels = build(folder / "dist")
        place = Place(folder)
        rows = [tuple(cell.format(number) for cell in DOCUMENTS[number % 3]) for number in range(60)]
        lines = ["text,area,topic", *(f'"{text}",{area},{topic}' for text, area, topic in rows)]
        (place.folder / "documents.csv").write_text("\n".join(lines) + "\n")
        for name, text in MINE.items():
            (place.folder / "my conf" / name).parent.mkdir(parents=True, exist_ok=True)
            (place.folder / "my conf" / name).write_text(text)
        place.install(*wheels.values())
        check_base(place)
        place.install(*(f"{wheels[package]}[train]" for package in SCRIPTS))
        check_train(place)
        place.install(f"{wheels['htc']}[train,minilm,icd10,attack,data,demo,cluster,dashboards]")
        for command in WITH_EVERYTHING:
            place.run(*command)
    print(f"{place.passed} passed, 0 failed")


if __name__ == "__main__":
    main()
