"""Read the files of experiments/: one for each table or figure."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from kjcm.analysis.models import with_tuples
from kjcm.errors import ConfigError, KjcmError, some

NO_EXPERIMENTS = ("paper", "models")
ALWAYS = "result"  # the first section of every report


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the report.

    Attributes:
        key: the file's name without ending.
        heading: its heading in the report.
        order: its position in the report.
        claim: the paper's claim, or a question that the paper leaves open.
        function: the function of kjcm.reporting that makes it.
        runs: keys of experiments/models.yaml that it shows.
        printed: ids, or prefixes of ids, in experiments/paper.yaml to compare with.
    """

    key: str
    heading: str
    order: int
    claim: str
    function: str
    runs: tuple[str, ...] = ()
    printed: tuple[str, ...] = ()


def folder() -> Path:
    """Return the folder of experiments: inside the package in a wheel, next to the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def load_experiments(place: Path, only: tuple[str, ...] = ()) -> list[Experiment]:
    """Return the experiments in the report's order; `only`: their keys, () for all. The result is always included.

    Raises:
        ConfigError: `only` names an experiment that does not exist.
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
