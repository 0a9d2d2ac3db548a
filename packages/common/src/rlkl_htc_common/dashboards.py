"""make dashboards: wandb workspaces as code.

python -m rlkl_htc_common.dashboards                         check them, and write each as JSON under outputs/dashboards
python -m rlkl_htc_common.dashboards push=true entity=NAME   save them on the server (run `wandb login` before)
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
from rlkl_htc_common.runs.directory import make_folder, write_json

COLUMNS = 3  # panels beside each other
RANDOM = ("__id__",)  # keys whose values change with every call


@dataclass
class PanelConfig:
    """A line plot of metrics over steps."""

    title: str = MISSING
    metrics: list[str] = MISSING


@dataclass
class SectionConfig:
    """Panels under a heading."""

    name: str = MISSING
    panels: list[PanelConfig] = MISSING


@dataclass
class DashboardConfig:
    """A workspace. `group_by`: keys of the run's config; runs with the same values are drawn as one line."""

    name: str = MISSING
    project: str = MISSING
    group_by: list[str] = field(default_factory=list)
    sections: list[SectionConfig] = MISSING


@dataclass
class DashboardsConfig:
    """make dashboards.

    Attributes:
        dashboards: all of them.
        entity: the owner of the wandb project; needed to push.
        push: also save them on the server.
        output: the folder for the JSON files.
    """

    dashboards: list[DashboardConfig] = MISSING
    entity: str | None = None
    push: bool = False
    output: str = "outputs/dashboards"


def workspace(dashboard: DashboardConfig, entity: str) -> Any:
    """Build a dashboard with wandb's library, which checks it."""
    require("rlkl-htc-common[dashboards]", "wandb-workspaces")
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    def panel(config: PanelConfig, place: int) -> Any:
        layout = reports.Layout(x=place % COLUMNS * 8, y=place // COLUMNS * 6, w=8, h=6)
        return reports.LinePlot(title=config.title, x="Step", y=list(config.metrics), layout=layout)

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
    folder = Path(typed.output)
    make_folder(folder)
    for dashboard in typed.dashboards:
        space = workspace(dashboard, typed.entity or "")
        file = folder / f"{re.sub(r'[^a-z]+', '-', dashboard.name.lower())}.json"
        write_json(file, as_json(space))
        print_result(f"{dashboard.name}: {file}")
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
