"""Reach the W&B server, and find the saved views of a project: workspaces and reports."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from kjcm.errors import KjcmError, first_line
from kjcm.tracking.loggers import has_key

SECONDS = 20  # that the server may take to answer
WORKSPACE, REPORT = "project-view", "runs"  # W&B's types of a view
VIEWS = """
query ProjectViews($entity: String!, $project: String!, $type: String!, $after: String) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: $type, first: 100, after: $after) {
      edges { node { id name displayName } }
      pageInfo { endCursor hasNextPage }
    }
  }
}
"""


def require_workspaces(command: str) -> None:
    """Raise KjcmError unless wandb-workspaces is installed."""
    if find_spec("wandb_workspaces") is None:
        raise KjcmError(f"{command} needs the extra wandb-workspaces: pip install 'kjcm[wandb-workspaces]'.")


@contextmanager
def errors_named() -> Iterator[None]:
    """Raise an error of W&B or its server as KjcmError."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (wandb.Error, WandbApiFailedError) as error:
        raise KjcmError(
            f"W&B: {first_line(error)}. Check the address (WANDB_BASE_URL), the API key and the network, then repeat the command."
        ) from None


def connect() -> Any:
    """Return W&B's public API for the user's key, which its server has accepted.

    Raises:
        KjcmError: there is no API key, or the server refuses it or does not answer.
    """
    if not has_key():
        raise KjcmError("W&B: there is no API key. Run `wandb login`, or set WANDB_API_KEY. dry_run=true needs no key.")
    import wandb

    with errors_named():
        wandb.setup(settings=wandb.Settings(silent=True))
        return wandb.Api(timeout=SECONDS)


def given_entity(entity: str | None) -> str | None:
    """Return `entity`, else WANDB_ENTITY, else None."""
    return entity or os.environ.get("WANDB_ENTITY") or None


def entity_of(api: Any, entity: str | None) -> str:
    """Return `entity`, else WANDB_ENTITY, else the default entity of the API key.

    Raises:
        KjcmError: there is none.
    """
    with errors_named():
        found = given_entity(entity) or api.default_entity
    if not found:
        raise KjcmError("W&B: the API key has no default entity. Set entity=NAME, a user or a team.")
    return str(found)


def view_named(api: Any, entity: str, project: str, kind: str, name: str, *, overwrite: bool) -> dict[str, str] | None:
    """Return id and internal name of the view to replace, None if the project has no view of this name.

    Args:
        api: what `connect` returned.
        entity: user or team.
        project: W&B project.
        kind: WORKSPACE or REPORT.
        name: the name that people see.
        overwrite: whether an existing view may be replaced.

    Raises:
        KjcmError: the project is missing; a view of this name exists, and `overwrite` is false; or several exist.
    """
    found = [view for view in _views(api, entity, project, kind) if view["displayName"] == name]
    if len(found) > 1:
        raise KjcmError(f"W&B: {entity}/{project} has {len(found)} views named {name!r}. Choose another name=NAME.")
    if found and not overwrite:
        raise KjcmError(
            f"W&B: {entity}/{project} has a view named {name!r}. Choose another name=NAME, or add overwrite=true to replace it."
        )
    return found[0] if found else None


def _views(api: Any, entity: str, project: str, kind: str) -> Iterator[dict[str, str]]:
    """Yield id, name and displayName of each saved view of a project."""
    from wandb_workspaces._graphql import execute_graphql

    after, more = None, True
    while more:
        variables = {"entity": entity, "project": project, "type": kind, "after": after}
        with errors_named():
            found = execute_graphql(api, VIEWS, variables).get("project")
        if found is None:
            raise KjcmError(
                f"W&B: there is no project {entity}/{project}, or the API key may not see it. Log a run into it first, or set "
                "entity=NAME and project=NAME."
            )
        yield from (edge["node"] for edge in found["allViews"]["edges"])
        page = found["allViews"]["pageInfo"]
        after, more = page["endCursor"], page["hasNextPage"]
