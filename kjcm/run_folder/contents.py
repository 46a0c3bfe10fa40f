"""What a run folder records, each file with its shape: identity, config, overrides, cohort, report, predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.checks import check_values
from kjcm.keys.commands.index import GROUPS
from kjcm.keys.commands.train import BaselineConfig, TrainConfig
from kjcm.keys.identity import INPUTS, LEGACY
from kjcm.keys.key import recorded
from kjcm.keys.survey import ClassificationConfig, DataConfig
from kjcm.read.table import STREAMED, WHOLE
from kjcm.records import Count, Shape, damaged, faults, read_frame, read_json, read_yaml

IDENTITY = {"hash": str, "results_version": int, "inputs": {str: str}, "launch?": (str, None)}
FLOW = dict.fromkeys(
    ("read", "unresolved", "invalid", "cutoff", "below_cutoff", "below_cutoff_groups", "cohort", "groups", "train",
     "validation", "unused", "test"), Count,
)  # fmt: skip
COHORT = {
    "flow": {**FLOW, "read_by_file": {str: Count}},
    "groups": [{"code": str, "title": str, "train": Count, "test": Count}],
    "left_groups": [{"code": str, "train": Count, "test": Count}],
    "classification_groups": (Count, None),
    "same_text": {"texts": Count, "rows_repeated": Count, "rows_conflicting": Count, "ceiling": (float, None)},
    "classes": [str],
    "hashes": {"cohort": str},
}
SHOWN = {  # what the metrics are shown from
    "metrics": {str: float}, "n_test": Count, "synthetic": bool, "n_test_without_training": Count,
    "codes_without_training": [str], "validation?": {str: float},
}  # fmt: skip
REPORT = {
    "synthetic": bool,
    "n_test": Count,
    "metrics": {str: float},
    "validation": {str: float},
    "level": (int, None),
    "n_classes": Count,
    "n_augmented?": Count,
    "n_reviewed?": Count,
    "per_class": [{"code": str, "title": str, "title_en": str, "n_train": Count}],
    "hashes": {"cohort": str, "split": str},
}
NAMED = {"name": str, "seed": Count, "seeds": {str: Count}, "data": {"source": str}, "classification": {"name": str},
         "preset": {"scale": float}}  # fmt: skip
TRAINED = {"model": {"name": str}, "optim": {str: object}, "trainer": {"max_epochs": Count}}
# Keys of a data node that no cohort depends on; runs of an earlier version may lack them.
NOT_NEEDED = {"higher_cutoff", "batch_size", "manager_words", "reviewed", "train_wave"} | {
    key.removeprefix("data.") for key in LEGACY
}


def run_identity(path: Path) -> Mapping[str, Any]:
    """Return a run's identity.json."""
    found: Mapping[str, Any] = read_json(path / "identity.json", IDENTITY)
    return found


def run_cohort(path: Path) -> Mapping[str, Any]:
    """Return a run's cohort.json."""
    found: Mapping[str, Any] = read_json(path / "cohort.json", COHORT)
    return found


def run_report(path: Path) -> Mapping[str, Any]:
    """Return a run's report.json."""
    found: Mapping[str, Any] = read_json(path / "report.json", REPORT)
    return found


def run_measured(path: Path) -> Mapping[str, Any]:
    """Return a run's report.json, of which a list needs no more than the metrics; runs of an earlier version have less."""
    shape = {"metrics?": {str: float}, "validation?": {str: float}, "seconds?": {"total?": float}}
    found: Mapping[str, Any] = read_json(path / "report.json", shape)
    return found


def run_overrides(path: Path) -> Sequence[str]:
    """Return the overrides of a run's command."""
    found: Sequence[str] = read_yaml(path / "hydra" / "overrides.yaml", [str])
    return found


def run_predictions(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a run's predictions.parquet."""
    return read_frame(path / "predictions.parquet", columns)


def run_config(path: Path) -> Mapping[str, Any]:
    """Return a run's resolved config.

    Raises:
        KjcmError: config.yaml is missing or damaged, or a value has another type than its key.
    """
    file = path / "config.yaml"
    config: Mapping[str, Any] = read_yaml(file, NAMED)
    kind = GROUPS["data"].get(config["data"]["source"])
    if kind is None:
        raise damaged(file, "there is no such data.source")
    trained = "model" in config
    shapes = (
        TRAINED if trained else {},
        {**_shape_of(TrainConfig if trained else BaselineConfig), "data": _data_shape(kind)},
    )
    if wrong := next((fault for shape in shapes for fault in faults(config, shape)), ""):
        raise damaged(file, wrong)
    return config


def recorded_data(
    path: Path, config: Mapping[str, Any], *, own: bool = True
) -> tuple[DataConfig, ClassificationConfig]:
    """Return the nodes data and classification of a run's config, whose files may be read.

    A run folder may come from elsewhere, so its config may name any path: only files of tables are opened.

    Args:
        path: the run folder.
        config: of the run.
        own: whether the files of its data are read, not only those of its classification.

    Raises:
        KjcmError: a value is out of its range, or a path is not a table's file.
    """
    file, data, classification = path / "config.yaml", config["data"], config["classification"]
    kind: type[DataConfig] = GROUPS["data"][data["source"]]
    try:
        check_values(kind, data, "data.")
        check_values(ClassificationConfig, classification, "classification.")
    except ConfigError as error:
        raise damaged(file, error) from None
    if own and data.get("reader"):
        raise KjcmError(
            f"{file}: its data were read by a function of the user's, which kjcm does not run for a run folder. Name the data "
            "on the command line."
        )
    for key in INPUTS:
        node, name = key.split(".")
        is_read = node == "classification" or (own and node == "data")
        if is_read and (value := config[node].get(name)) and not _may_be_read(value):
            raise KjcmError(
                f"{file}, {key}: {value[:200]} is not a table's file, so it is not read. Name the data on the command line."
            )
    return recorded(kind, data), recorded(ClassificationConfig, classification)


def _may_be_read(value: str) -> bool:
    try:
        path = Path(value).expanduser()
        return path.suffix.lower() in (*STREAMED, *WHOLE) and (path.is_file() or not path.exists())
    except (OSError, RuntimeError, ValueError):  # a name that is too long, of no user, or with a null byte
        return False


def _shape_of(node: type) -> dict[Any, Shape]:
    """Return the shape of a schema's node; runs of an earlier version may lack a key."""
    hints = get_type_hints(node)
    return {f"{field.name}?": _shape(hints[field.name]) for field in fields(node)}


def _data_shape(node: type) -> dict[Any, Shape]:
    return {
        name if (name := key.removesuffix("?")) not in NOT_NEEDED else key: shape
        for key, shape in _shape_of(node).items()
    }


def _shape(hint: Any) -> Shape:
    """Return the shape of a type of the schema."""
    if hint is Any:
        return object
    if hint is NoneType:
        return None
    if is_dataclass(hint):
        return _shape_of(hint)  # type: ignore[arg-type]
    parts = tuple(map(_shape, get_args(hint)))
    if get_origin(hint) is list:
        return [parts[0]]
    if get_origin(hint) is dict:
        return {str: parts[1]}
    return parts or hint
