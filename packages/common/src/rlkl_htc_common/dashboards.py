"""make dashboards: wandb workspaces as code.

python -m rlkl_htc_common.dashboards                         check them, and write each as JSON under outputs/dashboards
python -m rlkl_htc_common.dashboards push=true entity=NAME   save them on the server (run `wandb login` before)
python -m rlkl_htc_common.dashboards 'runs=[runs/htc]'       also draw them, with the numbers of offline runs
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl_htc_common.cli.program import begin

    begin("rlkl-htc-common", "dashboards")


import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from rlkl_htc_common.commands.application import print_result, run_application
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.report.dashboard import COLUMNS, DashboardConfig, PanelConfig, draw_dashboard
from rlkl_htc_common.runs.directory import make_folder, write_atomically, write_json
from rlkl_htc_common.runs.offline import read_offline_runs

RANDOM = ("__id__",)  # keys whose values change with every call
KINDS = ("line", "bars", "page")  # of panels


@dataclass
class DashboardsConfig:
    """make dashboards.

    Attributes:
        dashboards: all of them.
        entity: the owner of the wandb project; needed to push.
        push: also save them on the server.
        output: the folder for the JSON files.
        runs: folders with offline runs; with their numbers each workspace is drawn into an SVG beside its JSON.
    """

    dashboards: list[DashboardConfig] = MISSING
    entity: str | None = None
    push: bool = False
    output: str = "outputs/dashboards"
    runs: list[str] = field(default_factory=list)


def workspace(dashboard: DashboardConfig, entity: str) -> Any:
    """Build a dashboard with wandb's library, which checks it."""
    require("rlkl-htc-common[dashboards]", "wandb-workspaces")
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    def panel(config: PanelConfig, place: int) -> Any:
        layout = reports.Layout(x=place % COLUMNS * 8, y=place // COLUMNS * 6, w=8, h=6)
        metrics = list(config.metrics)
        match config.kind:
            case "bars":
                return reports.BarPlot(title=config.title, metrics=metrics, orientation="v", layout=layout)
            case "page":
                return reports.MediaBrowser(title=config.title, media_keys=metrics, layout=layout)
        return reports.LinePlot(title=config.title, x="Step", y=metrics, layout=layout)

    sections = [
        workspaces.Section(
            name=section.name,
            is_open=True,
            panels=[panel(config, place) for place, config in enumerate(section.panels)],
        )
        for section in dashboard.sections
    ]
    groups: list[Any] = [workspaces.Config(key.removeprefix("config.")) for key in dashboard.group_by]
    return workspaces.Workspace(
        entity=entity,
        project=dashboard.project,
        name=dashboard.name,
        sections=sections,
        runset_settings=workspaces.RunsetSettings(groupby=groups),
    )


def as_json(space: Any) -> dict[str, Any]:
    """A workspace as JSON for the server, without random keys."""
    model = space._to_model()  # without a server there is no public method for this
    content = _without_random(json.loads(model.model_dump_json(by_alias=True, exclude_none=True)))
    assert isinstance(content, dict)
    return content


def _without_random(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_random(inner) for key, inner in value.items() if key not in RANDOM}
    return [_without_random(inner) for inner in value] if isinstance(value, list) else value


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, DashboardsConfig)
    if typed.push and not typed.entity:
        raise InputError("to push, entity=NAME must be given: make dashboards-push WANDB_ENTITY=NAME.")
    for panel in (panel for each in typed.dashboards for section in each.sections for panel in section.panels):
        if panel.kind not in KINDS:
            raise InputError(f"panel {panel.title!r}: kind must be one of {', '.join(KINDS)}, not {panel.kind!r}.")
    runs = [run for each in typed.runs for run in read_offline_runs(Path(each))]
    folder = Path(typed.output)
    make_folder(folder)
    for dashboard in typed.dashboards:
        space = workspace(dashboard, typed.entity or "")
        file = folder / f"{re.sub(r'[^a-z]+', '-', dashboard.name.lower())}.json"
        write_json(file, as_json(space))
        print_result(f"{dashboard.name}: {file}")
        drawn = draw_dashboard(dashboard, runs)
        if drawn is not None:
            write_atomically(file.with_suffix(".svg"), drawn + "\n")
            print_result(f"{dashboard.name}: {file.with_suffix('.svg')}")
        if typed.push:
            print_result(f"{dashboard.name}: {space.save().url}")


def main() -> None:
    """The entry point."""
    ConfigStore.instance().store(name="dashboards_schema", node=DashboardsConfig)
    run_application(
        _task,
        application="dashboards",
        config="dashboards",
        schema=DashboardsConfig,
        distribution="rlkl-htc-common",
    )


if __name__ == "__main__":
    main()
