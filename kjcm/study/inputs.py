"""From a resolved config to the classification and the cohort: what the commands have in common."""

import copy
from pathlib import Path
from typing import Any

from kjcm.errors import ConfigError
from kjcm.files import digest
from kjcm.ksco.classification import Classification, load_classification
from kjcm.schema import INPUTS
from kjcm.survey.cohort import Cohort, build_cohort
from kjcm.survey.responses import Source, kwcs_source, table_source
from kjcm.survey.twin import synthetic_source

Config = dict[str, Any]


def source_of(data: Config, classification: Classification) -> Source:
    """Return the raw tables that a data node names.

    Raises:
        KjcmError: a file is missing or unreadable, or data.train_wave is set and a wave is missing.
    """
    columns = data["columns"]
    if data["source"] == "synthetic":
        return synthetic_source(data["scale"], data["twin_seed"], columns, classification)
    if data["source"] == "kwcs":
        if data.get("train_wave") and not (data["wave5"] and data["wave6"]):  # said before any file is read
            raise ConfigError(
                f"data.train_wave={data['train_wave']} trains on one wave and tests on the other: give data.wave5=FILE and "
                "data.wave6=FILE, or data.train_wave=null."
            )
        return kwcs_source(data["wave5"], data["wave6"], data["crosswalk"], data["resolutions"], columns)
    return table_source(data["path"], data["test_path"], columns)


def cohort_of(data: Config, classification: Classification, source: Source | None = None) -> Cohort:
    """Return the cohort of a data node; `source` where it was read already."""
    train_wave = data.get("train_wave")  # a table has none
    given_test = train_wave is not None or (data["source"] == "table" and data["test_path"] is not None)
    return build_cohort(
        source or source_of(data, classification),
        classification,
        level=data["level"],
        cutoff=data["cutoff"],
        split_seed=data["split_seed"],
        train_share=1.0 if given_test else data["train_share"],
        train_fraction=data["train_fraction"],
        validation=data["validation"],
        drop_invalid=data["drop_invalid"],
        train_wave=train_wave,
    )


def classification_of(config: Config) -> Classification:
    """Return the classification that a config names."""
    node = config["classification"]
    return load_classification(node["name"], node["path"])


def input_digests(config: Config) -> dict[str, str]:
    """Return key -> SHA-256 of every input file or folder that a config names and that is here."""
    return {key: _digest(path) for key, path in input_files(config).items()}


def _digest(path: Path) -> str:
    """Return the digest of an input; a SentencePiece file without a table of its own counts with the vocab.txt beside it."""
    table = path.with_name("vocab.txt")
    beside = [digest(table)] if path.suffix == ".model" and table.is_file() else []
    return "+".join([digest(path), *beside])


def with_absolute_inputs(config: Config) -> Config:
    """Return the config with the whole paths of its input files, so that it holds from any folder."""
    changed: Config = copy.deepcopy(config)
    for key, path in input_files(config).items():
        node, name = key.split(".")
        changed[node][name] = str(path.resolve())
    return changed


def input_files(config: Config) -> dict[str, Path]:
    """Return key -> path of every input file or folder that a config names and that is here."""
    found = {}
    for key in INPUTS:
        node, name = key.split(".")
        value = (config.get(node) or {}).get(name)
        if value and (path := Path(value).expanduser()).exists():
            found[key] = path
    return found
