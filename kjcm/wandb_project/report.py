"""`kjcm wandb report`: save finished runs of a sweep as a W&B Report."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omegaconf import DictConfig

from kjcm import __version__
from kjcm.analysis.content import Table
from kjcm.analysis.formats import as_markdown
from kjcm.errors import ConfigError, counted
from kjcm.keys.checks import require_wandb_project
from kjcm.keys.commands.wandb_project import WandbReportConfig
from kjcm.keys.composition import typed
from kjcm.markdown import escaped
from kjcm.shell import command_line
from kjcm.wandb_project.connection import (
    REPORT,
    connect,
    entity_of,
    errors_named,
    given_entity,
    require_workspaces,
    view_named,
)
from kjcm.wandb_project.folders import run_id
from kjcm.wandb_project.panels import PANELS, made
from kjcm.wandb_project.specification import write_specification
from kjcm.wandb_project.sweep_tables import Setting, confusion_tables, ranked, setting_table

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import PanelGrid, Report

TITLE = 128  # most characters of a report's title
HASH = 12  # shown characters of a hash
SYNTHETIC = "**SYNTHETIC** twin: these figures say nothing about real answers."

log = logging.getLogger("kjcm")


def report(cfg: DictConfig) -> None:
    """Save the report in the project, or write its specification.

    Raises:
        ConfigError: W&B would refuse a name, or no run has the metric.
        KjcmError: there is no finished run; the package or the API key is missing; the server refuses; or a report of this
            title exists.
    """
    config = typed(cfg, WandbReportConfig)
    require_wandb_project("", config.project, config.entity)
    title = f"Sweep {Path(config.sweep).expanduser().resolve().name}"[:TITLE] if config.name is None else config.name
    if not 0 < len(title.strip()) <= TITLE:
        raise ConfigError(f"name={title[:40]}: a report's title has 1 to {TITLE} characters.")
    require_workspaces("kjcm wandb report")
    settings, metric = ranked(config.sweep, config.metric)
    ids = {run.path: found for setting in settings for run in setting.runs if (found := run_id(run.path))}
    # with dry_run and no out, the output is only JSON, so that it can be piped
    if not ids and not (config.dry_run and config.out is None):
        log.info("none of the runs was logged with logger=wandb: the report has neither links nor panels")
    if config.dry_run:
        entity = given_entity(config.entity)
        spec = _report(config, title, entity, settings, metric, ids)._to_model().spec
        write_specification(config.out, config.overwrite, entity=entity, project=config.project, name=title, spec=spec)
        return
    api = connect()
    entity = entity_of(api, config.entity)
    view = view_named(api, entity, config.project, REPORT, title, overwrite=config.overwrite)
    found = _report(config, title, entity, settings, metric, ids)
    if view:
        found.id = view["id"]  # save() then replaces this report
    with errors_named():
        found.save()
        log.info("W&B report %s: %s", "replaced" if view else "saved", found.url)


def _report(
    config: WandbReportConfig,
    title: str,
    entity: str | None,
    settings: Sequence[Setting],
    metric: str | None,
    ids: Mapping[Path, str],
) -> "Report":
    """Return the report as wandb-workspaces has it; without an entity it has no links.

    Args:
        config: the resolved config of the command.
        title: title of the report.
        entity: user or team.
        settings: of the sweep, the best first.
        metric: ranks the settings; None: they are not ranked.
        ids: run folder -> W&B id, of the runs that were logged with W&B.
    """
    import wandb_workspaces.reports.v2 as wr

    shown = settings[: config.best]
    tables = [setting_table(settings, metric), *confusion_tables(settings[0])]
    texts = [_facts(settings), *map(_section, tables[:1]), _overrides(shown, metric), *map(_section, tables[1:])]
    if ids and entity:
        texts.append(_links(entity, config.project, shown, ids))
    blocks: list[Any] = [wr.MarkdownBlock(text=text) for text in texts]
    if ids:
        blocks.append(_grid("all runs", [*ids.values()], ("line", "smoothed line", "bar")))
    if first := [ids[run.path] for run in settings[0].runs if run.path in ids]:
        blocks.append(_grid(f"setting 1{', the best' if metric else ''}", first, ("image",)))
    return wr.Report(project=config.project, entity=entity or "", title=title, width="fluid", blocks=blocks)


def _section(table: Table) -> str:
    """Return a table as Markdown, under a heading of the second level."""
    return f"#{as_markdown(table)}"


def _facts(settings: Sequence[Setting]) -> str:
    """Return how many runs the report has, and of which data."""
    runs = [run for setting in settings for run in setting.runs]
    lines = [f"{counted(len(runs), 'finished run')}, {counted(len(settings), 'setting')}, kjcm {__version__}"]
    for name in ("cohort", "split", "classes"):
        found = dict.fromkeys(run.hashes[name][:HASH] for run in runs)
        lines.append(f"{name}: {', '.join(found)}" if len(found) < 4 else f"{name}: {len(found)} different ones")
    text = "\n".join(f"- {line}" for line in lines)
    return f"{SYNTHETIC}\n\n{text}" if any(run.report["synthetic"] for run in runs) else text


def _overrides(shown: Sequence[Setting], metric: str | None) -> str:
    """Return the overrides of the first settings; each as code, which Markdown shows verbatim."""
    parts = ["## Best settings" if metric else "## Settings"]
    for number, setting in enumerate(shown, 1):
        line = command_line(map(setting.shown, setting.overrides)) or "(no overrides)"
        parts.append(f"{number}: {escaped(setting.first.name)}\n\n    {line}")
    return "\n\n".join(parts)


def _links(entity: str, project: str, shown: Sequence[Setting], ids: Mapping[Path, str]) -> str:
    """Return links to the project and to the runs of the first settings."""
    import wandb

    place = f"{wandb.Settings().app_url.rstrip('/')}/{quote(entity)}/{quote(project)}"
    lines = [f"- [project {escaped(project)}]({place})"]
    lines += [
        f"- [setting {number}, seed {run.seed}]({place}/runs/{quote(ids[run.path])})"
        for number, setting in enumerate(shown, 1)
        for run in setting.runs
        if run.path in ids
    ]
    return "## Links\n\n" + "\n".join(lines)


def _grid(name: str, ids: Sequence[str], kinds: Collection[str]) -> "PanelGrid":
    """Return the workspace's panels of some kinds, for the runs with these ids."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    runs = wr.Runset(name=name, filters=[expr.Metric("ID").isin([*ids])])
    return wr.PanelGrid(runsets=[runs], panels=[made(panel) for panel in PANELS if panel.kind in kinds])
