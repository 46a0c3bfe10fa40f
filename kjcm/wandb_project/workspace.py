"""`kjcm wandb workspace`: save kjcm's panels as a view of a W&B project."""

import logging
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kjcm.errors import ConfigError
from kjcm.keys.checks import require_wandb_project
from kjcm.keys.commands.wandb_project import WandbWorkspaceConfig
from kjcm.keys.composition import typed
from kjcm.wandb_project.connection import (
    WORKSPACE,
    connect,
    entity_of,
    errors_named,
    given_entity,
    require_workspaces,
    view_named,
)
from kjcm.wandb_project.panels import run_table, sections
from kjcm.wandb_project.specification import write_specification

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = 128  # most characters of a view's name

log = logging.getLogger("kjcm")


def workspace(cfg: DictConfig) -> None:
    """Save the workspace in the project, or write its specification.

    Raises:
        ConfigError: W&B would refuse a name.
        KjcmError: the package or the API key is missing, the server refuses, or a view of this name exists.
    """
    config = typed(cfg, WandbWorkspaceConfig)
    require_wandb_project("", config.project, config.entity)
    require_workspaces("kjcm wandb workspace")
    made = _workspace(config.project, config.name)
    if config.dry_run:
        write_specification(
            config.out,
            config.overwrite,
            entity=given_entity(config.entity),
            project=config.project,
            name=config.name,
            spec=made._to_model().spec,
        )
        return
    api = connect()
    made.entity = entity_of(api, config.entity)
    view = view_named(api, made.entity, config.project, WORKSPACE, config.name, overwrite=config.overwrite)
    if view:
        made._internal_id, made._internal_name = view["id"], view["name"]  # save() then replaces this view
    with errors_named():
        made.save()
        log.info("W&B workspace %s: %s", "replaced" if view else "saved", made.url)


def _workspace(project: str, name: str) -> "Workspace":
    """Return the workspace as wandb-workspaces has it, without its entity."""
    import wandb_workspaces.workspaces as ws

    if not 0 < len(name.strip()) <= NAME:
        raise ConfigError(f"name={name[:40]}: a view's name has 1 to {NAME} characters.")
    try:
        return ws.Workspace(entity="", project=project, name=name, sections=sections(), runset_settings=run_table())
    except ValueError:  # of pydantic: only the name is free
        raise ConfigError(f"name={name}: W&B takes no emoji, symbol or currency sign in a view's name.") from None
