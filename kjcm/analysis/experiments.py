"""The files of experiments/: one for each table or figure, read as data."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from kjcm.analysis.models import with_tuples
from kjcm.errors import ConfigError, KjcmError, some

NO_EXPERIMENTS = ("paper", "models")
ALWAYS = "result"  # what every report begins with


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the report.

    Attributes:
        key: the file's name without ending.
        heading: what the report calls it.
        order: its place in the report.
        claim: what the paper says, or what it left open.
        function: the function of kjcm.report that makes it.
        runs: keys of experiments/models.yaml that it shows.
        printed: ids of experiments/paper.yaml, or their beginnings, that it is compared with.
    """

    key: str
    heading: str
    order: int
    claim: str
    function: str
    runs: tuple[str, ...] = ()
    printed: tuple[str, ...] = ()


def folder() -> Path:
    """Return the folder of experiments: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def load_experiments(place: Path, only: tuple[str, ...] = ()) -> list[Experiment]:
    """Return the experiments in the report's order; `only`: their keys, () for all. The result is always among them.

    Raises:
        ConfigError: `only` names one that there is not.
        KjcmError: a file is not readable as an experiment.
    """
    found = {file.stem: _read(file) for file in sorted(place.glob("*.yaml")) if file.stem not in NO_EXPERIMENTS}
    if unknown := [key for key in only if key not in found]:
        raise ConfigError(f"only={some(unknown)}: choose among {', '.join(sorted(found))}.")
    return sorted(
        (one for one in found.values() if not only or one.key in (ALWAYS, *only)), key=lambda one: (one.order, one.key)
    )


def _read(file: Path) -> Experiment:
    try:
        entry: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Experiment)} - {"key"}
        if unknown := sorted(set(entry) - known):
            raise KjcmError(f"{file}: unknown keys {some(unknown)}; the keys are {', '.join(sorted(known))}.")
        return Experiment(key=file.stem, **with_tuples(entry))
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise KjcmError(f"{file}: not readable as an experiment ({error}).") from None
