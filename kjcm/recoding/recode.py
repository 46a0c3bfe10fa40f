"""`kjcm recode`: convert a file's codes to another classification; every row stays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import atomic, require_file, write_json
from kjcm.hub.models import model_folder
from kjcm.keys.commands.recoding import RecodeConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import load_classification
from kjcm.ksco.correspondence import Correspondence, read_correspondences
from kjcm.read.labelled import value_labels
from kjcm.read.options import ReadOptions, read_options
from kjcm.read.table import read_table, table_columns
from kjcm.recoding.decisions import Row, decide, rules_of, tested, written
from kjcm.recoding.record import log_record, record_of
from kjcm.recoding.rows import is_ksco, plain_name, rows_of
from kjcm.recoding.scores import score
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.write.table import Added, open_input, target_of, writer

CHUNK = 1 << 16
ADDED = Added(
    {
        "recode_decision": "What replaces the code",
        "recoded": "Code of the other classification",
        "recode_title": "Title of this code",
        "recode_candidates": "Codes of the correspondence, likeliest first",
        "recode_weights": "Their weights",
        "recode_list": "Codes that a reviewer chooses from",
        "recode_reason": "Why the row is undecided or not scored",
    }
)


def recode(cfg: DictConfig) -> None:
    """Write `input` with the codes of the classification `to` to `output`, and a record of the counts to `output`.json.

    Raises:
        ConfigError: a key needs another, or the run predicts another classification.
        KjcmError: a file is not usable, or the output exists.
    """
    config = typed(cfg, RecodeConfig)
    paths = _paths(config.correspondence)
    read = [config.input, *paths, model_folder(config.run) if config.run else None]
    target = target_of(config.output, read, overwrite=config.overwrite)
    record_file = Path(f"{target}.json")
    settings = _settings(config)
    correspondence = read_correspondences(paths, from_ksco=is_ksco(config.from_), to_ksco=is_ksco(config.to))
    source = require_file(config.input, "input file")
    columns = _columns(config, settings)
    options = read_options(config, "", [source], columns)
    frame = read_table(source, options)
    if twice := [name for name in ADDED.labels if name in frame]:
        raise KjcmError(f"{source}: already has columns {some(twice)}, which would be overwritten. Rename them.")
    code = {"code": columns.pop("code")}
    own = table_columns(str(source), frame.columns, code, options, "Set columns.{role}=NAME.")
    remedy = "Set columns.{role}=NAME, or columns.{role}=null if there is none."
    own |= table_columns(str(source), frame.columns, columns, options, remedy)
    rows = rows_of(frame, own, correspondence, config, source)
    if settings is not None:
        _score(rows, frame, own, settings, config, options, source)
    if config.triage.target_error is not None and not tested(rows):
        raise ConfigError(
            f"triage.target_error={config.triage.target_error}: the promise needs rows with several candidates, text, and a "
            "code in columns.recoded. Code some by hand, or use triage.target_error=null."
        )
    triage = config.triage
    rules = rules_of(
        rows, target=triage.target_error, threshold=triage.threshold, confidence=triage.confidence, alpha=triage.alpha,
        k=triage.k,
    )  # fmt: skip
    decide(rows, rules, weights=config.weights)
    titles = _titles(correspondence, settings, config.to)
    _write(rows, titles, source, target, options, overwrite=config.overwrite)
    record = record_of(rows, rules, correspondence, config)
    write_json(record_file, record)
    log_record(record, correspondence, target)


def _paths(given: Any) -> list[str]:
    """Return the files of `correspondence`, one or a list of them."""
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError(f"correspondence={given}: give a file, or a list of files to chain, as [A_TO_B,B_TO_C].")
    return [str(Path(path).expanduser()) for path in paths]


def _settings(config: RecodeConfig) -> Settings | None:
    """Return the settings of the run's model, None without a run."""
    if config.run is None:
        return None
    require_device("accelerator", config.accelerator)
    settings = load_settings(model_folder(config.run))
    own, new = plain_name(settings.classification), plain_name(config.to)
    if {own, new} <= {"ksco7", "ksco8"} and own != new:
        raise ConfigError(
            f"run={config.run}: its codes are of {settings.classification}, and to={config.to}. Give a run of the new "
            "classification, or none."
        )
    return settings


def _titles(correspondence: Correspondence, settings: Settings | None, to: str) -> Mapping[str, str]:
    """Return code -> title: of KSCO-7, else of the run, else of the correspondence."""
    known = load_classification("ksco7").titles if plain_name(to) == "ksco7" else {}
    return {**correspondence.titles, **(settings.titles if settings else {}), **known}


def _columns(config: RecodeConfig, settings: Settings | None) -> dict[str, str | None]:
    """Return role -> column; without a run no answers are read."""
    found: dict[str, str | None] = {}
    for role, name in vars(config.columns).items():
        if role in ("code", "recoded"):
            found[role] = name
        elif settings is not None and (role != "manages" or config.triage.managers == "column"):
            found[role] = settings.columns.get(role) if name == "@run" else name
    if settings is not None and config.triage.managers == "column" and found["manages"] is None:
        raise ConfigError("triage.managers=column needs columns.manages=NAME, a column of yes and no.")
    return found


def _score(
    rows: Sequence[Row],
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    settings: Settings,
    config: RecodeConfig,
    options: ReadOptions,
    source: Path,
) -> None:
    """Score the rows with several candidates."""
    places = [place for place, row in enumerate(rows) if len(row.candidates) > 1]
    if not places:
        return
    answers = {role: name for role, name in columns.items() if role not in ("code", "recoded")}
    score(
        [rows[place] for place in places], frame.iloc[places].reset_index(drop=True), model_folder(str(config.run)), settings,
        source=source, columns=answers, labels=value_labels(source, options), options=options,
        accelerator=config.accelerator, precision=config.precision, managers=config.triage.managers,
        least=config.triage.least_probability,
    )  # fmt: skip


def _write(
    rows: Sequence[Row],
    titles: Mapping[str, str],
    source: Path,
    target: Path,
    options: ReadOptions,
    *,
    overwrite: bool,
) -> None:
    """Write the file with the rows' new columns; titles: code -> title.

    Raises:
        KjcmError: the file no longer has as many rows.
    """
    changed = KjcmError(f"{source}: changed while kjcm read it. Run the command again.")
    given, done = open_input(source, target, ADDED.labels, CHUNK, options), 0
    with atomic(target, overwrite) as file, writer(file, source, ADDED, "own", options) as out:
        for frame in given.chunks:
            part = rows[done : done + len(frame)]
            done += len(frame)
            if len(part) < len(frame):
                raise changed
            ranked = [row.ranked for row in part]
            cells = zip(
                (row.decision for row in part),
                (row.recoded for row in part),
                (titles.get(row.recoded, "") for row in part),
                map(" ".join, ranked),
                (
                    written([row.candidates[code] for code in codes]) if codes else ""
                    for row, codes in zip(part, ranked, strict=True)
                ),
                (" ".join(row.listed) for row in part),
                (row.reason for row in part),
                strict=True,
            )
            added = pd.DataFrame(list(cells), columns=list(ADDED.labels), dtype=object)
            out.write(pd.concat([frame.reset_index(drop=True), added], axis=1))
        if done < len(rows):
            raise changed
