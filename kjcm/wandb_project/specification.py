"""Write what a command would send to W&B as JSON, to a file or the screen."""

import json
import sys
from pathlib import Path
from typing import Any

from kjcm.files import atomic


def write_specification(
    out: str | None, overwrite: bool, *, entity: str | None, project: str, name: str, spec: Any
) -> None:
    """Write entity, project, name and `spec` (a model of wandb-workspaces) as JSON to `out`, or to the screen if None."""
    content = {
        "entity": entity or None,
        "project": project,
        "name": name,
        "spec": json.loads(spec.model_dump_json(by_alias=True, exclude_none=True)),  # as it would be sent
    }
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
        return
    with atomic(Path(out).expanduser(), overwrite) as file:
        file.write_text(text, encoding="utf-8")
