"""Describe a run for its trackers: name, group, tags, config, code version and hashes."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kjcm
from kjcm.run_folder.folder import RunFolder
from kjcm.survey.cohort import Cohort

HASH = 12  # first characters of the run hash: the run's id


@dataclass(frozen=True)
class Description:
    """The facts about a run that a tracker records next to its metrics.

    Attributes:
        folder: the run folder.
        id: the first 12 characters of the run's hash.
        name: experiment and id.
        group: the run's multirun, or its experiment without a multirun.
        tags: experiment, data source, level and model.
        config: the resolved config; its key `kjcm` contains version, commit and hashes.
    """

    folder: Path
    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    config: dict[str, Any]


def describe(config: Mapping[str, Any], folder: RunFolder, cohort: Cohort | None, sweep: str | None) -> Description:
    """Return the description of a run; `sweep` is the name of its multirun, or None; `cohort`: None without codes."""
    data, identifier = config["data"], folder.identity.hash[:HASH]
    level = f"{data['level']} digits" if data["level"] else "codes as they stand"
    return Description(
        folder=folder.path,
        id=identifier,
        name=f"{config['name']}-{identifier}",
        group=f"sweep-{sweep}" if sweep else config["name"],
        tags=(config["name"], data["source"], level, config["model"]["name"]),
        config={**config, "kjcm": _code_and_hashes(folder, cohort)},
    )


def _code_and_hashes(folder: RunFolder, cohort: Cohort | None) -> dict[str, Any]:
    found = {
        "version": kjcm.__version__,
        "commit": commit_of(Path(kjcm.__file__).parents[1]),
        "run": folder.identity.hash,
    }
    return (
        found
        if cohort is None
        else {
            **found,
            "cohort": cohort.cohort_hash,
            "split": cohort.split_hash,
            "classes": cohort.classes_hash,
            "synthetic": cohort.synthetic,
        }
    )


def commit_of(checkout: Path) -> str | None:
    """Return a checkout's commit, with -dirty if files were changed; None without git or a checkout."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
