"""Build the classification and the cohort from a resolved config, for all commands."""

import copy
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kjcm.errors import ConfigError, KjcmError
from kjcm.files import cached, digest, existing, key_of
from kjcm.keys.identity import INPUTS
from kjcm.keys.survey import DataConfig, KwcsConfig, SyntheticConfig, TableConfig, TitlesConfig
from kjcm.ksco.classification import KSCO8, Classification
from kjcm.read.options import read_options
from kjcm.survey.augment import titles_source
from kjcm.survey.cohort import Cohort, build_cohort
from kjcm.survey.covariates import kinds_of, roles_of
from kjcm.survey.responses import Source, kwcs_source, table_source
from kjcm.survey.store import arrays_of, cohort_from
from kjcm.survey.twin import synthetic_source

PACKAGE = Path(__file__).parents[1]
MADE_BY = (
    "files.py",
    "read/*.py",
    "ksco/*.py",
    "ksco/*.tsv",
    "survey/*.py",
    "survey/*.tsv",
)  # the code and tables that build a cohort
NOT_OF_THE_ROWS = (
    "batch_size",
    "classes",
    "higher_cutoff",
    "manager_words",
    "reviewed",
)  # keys of the data node that a cohort does not depend on


def source_of(data: DataConfig, classification: Classification) -> Source:
    """Return the raw tables that a data node names.

    Raises:
        KjcmError: a file is missing or unreadable, or data.train_wave is set and a wave is missing.
    """
    covariates = kinds_of(data.columns.covariates)
    return replace(_tables(data, classification, covariates), wording=data.wording, covariates=covariates)


def _tables(data: DataConfig, classification: Classification, covariates: Mapping[str, str]) -> Source:
    columns = data.columns.roles
    wanted = {**columns, **roles_of(covariates)}
    if isinstance(data, SyntheticConfig | KwcsConfig) and classification.name == KSCO8:
        # many codes are the same in both and mean other groups, so no check of the codes would find this
        raise ConfigError(
            f"data={data.source} is coded in KSCO-6 and KSCO-7: use classification=ksco7 with it. Rows coded in KSCO-8 are "
            "read with data=table."
        )
    if isinstance(data, TitlesConfig):
        return titles_source(data, columns, classification)
    if isinstance(data, SyntheticConfig):
        return synthetic_source(data.scale, data.twin_seed, columns, classification, [*covariates])
    if isinstance(data, TableConfig):
        options = read_options(data, "data.", [data.path, data.test_path], wanted)
        return table_source(data.path, data.test_path, columns, options, data.reader)
    assert isinstance(data, KwcsConfig)
    options = read_options(data, "data.", [data.wave5, data.wave6], wanted)
    if data.train_wave and not (data.wave5 and data.wave6):  # raised before any file is read
        raise ConfigError(
            f"data.train_wave={data.train_wave} trains on one wave and tests on the other: give data.wave5=FILE and "
            "data.wave6=FILE, or data.train_wave=null."
        )
    return kwcs_source(data.wave5, data.wave6, data.crosswalk, data.resolutions, columns, options)


def cohort_of(data: DataConfig, classification: Classification, source: Source | None = None) -> Cohort:
    """Return the cohort of a data node; `source`: its tables, if they were read before."""
    train_wave = data.train_wave if isinstance(data, SyntheticConfig | KwcsConfig) else None
    given_test = train_wave is not None or (isinstance(data, TableConfig) and data.test_path is not None)
    return build_cohort(
        source or source_of(data, classification),
        classification,
        level=data.level,
        cutoff=data.cutoff,
        split_seed=data.split_seed,
        train_share=1.0 if given_test else data.train_share,
        train_fraction=data.train_fraction,
        validation=data.validation,
        drop_invalid=data.drop_invalid,
        train_wave=train_wave,
        group_similar=data.group_similar,
        folds=None if given_test else data.folds,
        fold=data.fold or 0,
        inner_folds=data.inner_folds,
        inner_fold=data.inner_fold or 0,
        stratify=data.stratify,
    )


def cached_cohort(data: DataConfig, classification: Classification, cache: str | None) -> Cohort:
    """Return the cohort of a data node, from the folder `cache` if the same node, files and code made it before.

    Raises:
        KjcmError: any input is not usable, or it changed while it was read.
    """
    # A user's reader may change unseen. The cohort's key does not contain the classification's titles.
    if cache is None or getattr(data, "reader", None) or isinstance(data, TitlesConfig):
        return cohort_of(data, classification)
    key = _cohort_key(data, classification)

    def make() -> Cohort:
        cohort = cohort_of(data, classification)
        if _cohort_key(data, classification) != key:  # else it would be stored under a wrong name
            files = ", ".join(map(str, input_files({"data": vars(data)}).values()))
            raise KjcmError(f"{files}: changed while the cohort was built. Run again when they are complete.")
        return cohort

    return cached(Path(cache) / f"cohort-{key}.npz", make, arrays_of, cohort_from)


def _cohort_key(data: DataConfig, classification: Classification) -> str:
    """Return the key of everything that a cohort depends on; a file counts by kind and content, not by path."""
    node = {name: value for name, value in asdict(data).items() if name not in NOT_OF_THE_ROWS}
    for key, path in input_files({"data": node}).items():
        node[key.removeprefix("data.")] = [path.suffix, digest(path)]
    codes = [type(classification).__name__, dict(classification.levels), dict(classification.parents)]
    code = [digest(file) for pattern in MADE_BY for file in sorted(PACKAGE.glob(pattern))]
    return key_of([node, codes, code, sys.version, np.__version__, pd.__version__])


def input_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> digest of every input file or folder that a config names and that exists."""
    return {key: _digest(path) for key, path in input_files(config).items()}


def _digest(path: Path) -> str:
    """Return the digest of an input; a SentencePiece file without its own table includes the vocab.txt next to it."""
    table = path.with_name("vocab.txt")
    beside = [_digest_of(table)] if path.suffix == ".model" and table.is_file() else []
    return "+".join([_digest_of(path), *beside])


def _digest_of(path: Path) -> str:
    """Return the digest of a file or folder; a sweep's jobs read an unchanged file only once."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _remembered(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=256)
def _remembered(path: Path, state: tuple[tuple[Path, int, int], ...]) -> str:
    return digest(path)


def with_absolute_inputs(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config with absolute paths of its input files, so that it is valid in any folder."""
    changed = copy.deepcopy(config)
    for key, path in input_files(config).items():
        node, name = key.split(".")
        changed[node][name] = str(path.resolve())
    return changed


def input_files(config: Mapping[str, Any]) -> dict[str, Path]:
    """Return key -> path of every input file or folder that a config names and that is here."""
    found = {}
    for key in INPUTS:
        node, name = key.split(".")
        value = (config.get(node) or {}).get(name)
        if value and (path := existing(value)).exists():
            found[key] = path
    return found
