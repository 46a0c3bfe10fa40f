"""`kjcm recode`: convert a file's codes to another classification; every row stays."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.files import atomic, require_file, write_json
from kjcm.hub.models import model_folder
from kjcm.keys.commands.recoding import RecodeConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import load_classification
from kjcm.ksco.correspondence import Correspondence, Weights, plain_code, read_correspondences
from kjcm.read.cells import code_texts, tidy
from kjcm.read.labelled import value_labels
from kjcm.read.options import ReadOptions, read_options
from kjcm.read.table import read_table, table_columns
from kjcm.recoding.decisions import Row, Rules, counts_of, decide, rules_of, tested, written
from kjcm.recoding.scores import score
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.triage.thresholds import last_passed
from kjcm.write.table import OUTPUTS, Added, open_input, writer

CHUNK = 1 << 16
ADDED = Added(
    {
        "recode_decision": "What replaces the code",
        "recoded": "Code of the other classification",
        "recode_candidates": "Codes of the correspondence, likeliest first",
        "recode_weights": "Their weights",
        "recode_list": "Codes that a reviewer chooses from",
        "recode_reason": "Why the row is undecided or not scored",
    }
)

log = logging.getLogger("kjcm")


def recode(cfg: DictConfig) -> None:
    """Write `input` with the codes of the classification `to` to `output`, and a record of the counts to `output`.json.

    Raises:
        ConfigError: a key needs another, or the run predicts another classification.
        KjcmError: a file is not usable, or the output exists.
    """
    config = typed(cfg, RecodeConfig)
    target = Path(config.output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    record_file = Path(f"{target}.json")
    for file in (target, record_file):
        if file.exists() and not config.overwrite:
            raise KjcmError(f"{file} exists. Choose another output, or add overwrite=true.")
    settings = _settings(config)
    correspondence = read_correspondences(
        _paths(config.correspondence), from_ksco=_is_ksco(config.from_), to_ksco=_is_ksco(config.to)
    )
    source = require_file(config.input, "input file")
    columns = _columns(config, settings)
    options = read_options(config, "", [source], columns)
    frame = read_table(source, options)
    if twice := [name for name in ADDED.labels if name in frame]:
        raise KjcmError(f"{source}: already has columns {some(twice)}, which would be overwritten. Rename them.")
    own = table_columns(str(source), frame.columns, columns, options, "Set columns.{role}=NAME.")
    rows = _rows(frame, own, correspondence, config, source)
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
    _write(rows, source, target, options, overwrite=config.overwrite)
    record = _record(rows, rules, correspondence, config)
    write_json(record_file, record)
    _log(record, correspondence, target)


def _plain(name: str) -> str:
    """Return a classification's name as kjcm writes it: ksco8 for KSCO-8."""
    return name.lower().replace("-", "").replace("_", "")


def _is_ksco(name: str) -> bool:
    return _plain(name).startswith("ksco")


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
    own, new = _plain(settings.classification), _plain(config.to)
    if {own, new} <= {"ksco7", "ksco8"} and own != new:
        raise ConfigError(
            f"run={config.run}: its codes are of {settings.classification}, and to={config.to}. Give a run of the new "
            "classification, or none."
        )
    return settings


def _columns(config: RecodeConfig, settings: Settings | None) -> dict[str, str | None]:
    """Return role -> column; without a run no answers are read."""
    found: dict[str, str | None] = {}
    for role, name in vars(config.columns).items():
        if role in ("code", "recoded"):
            found[role] = name
        elif settings is not None:
            found[role] = settings.columns.get(role) if name == "@run" else name
    return found


def _rows(
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    correspondence: Correspondence,
    config: RecodeConfig,
    source: Path,
) -> list[Row]:
    """Return the rows with their candidates, and why some have none.

    Raises:
        ConfigError: the correspondence has codes shorter than `level`.
        KjcmError: codes have lost leading zeros, or a given new code is not in the correspondence.
    """
    known = load_classification("ksco7") if _plain(config.from_) == "ksco7" else None
    codes = [tidy(code) for code in code_texts(frame[columns["code"]])]
    plain = {code: plain_code(code, ksco=_is_ksco(config.from_)) for code in set(codes)}
    _require_zeros(plain.values(), correspondence, f"{source}, column {columns['code']!r}")
    given = [""] * len(frame)
    if "recoded" in columns:
        new_codes = {code[: config.level] for code in correspondence.new_codes if len(code) >= (config.level or 0)}
        cells = code_texts(frame[columns["recoded"]])
        given = [plain_code(cell, ksco=_is_ksco(config.to))[: config.level] for cell in cells]
        if wrong := sum(code != "" and code not in new_codes for code in given):
            raise KjcmError(
                f"{source}, column {columns['recoded']!r}: {counted(wrong, 'row')} without a code of the column 'to' in "
                f"{correspondence.name}. Correct these cells, or empty them."
            )
    candidates: dict[str, Weights] = {}
    reasons: dict[str, str] = {}
    for code, usual in plain.items():
        unknown = known is not None and known.resolve(code) is None
        partners = None if unknown or not code else correspondence.partners(usual, config.level)
        candidates[code] = partners or {}
        if not code:
            reasons[code] = "empty code"
        elif unknown:
            reasons[code] = "no code of KSCO-7"
        elif partners is None:
            reasons[code] = "code not in the correspondence"
        else:
            reasons[code] = "" if partners else "no partner in the next correspondence"
    if config.level is not None and (
        coarse := sorted({new for found in candidates.values() for new in found if len(new) < config.level})
    ):
        raise ConfigError(
            f"level={config.level}: the correspondence has the shorter codes {some(coarse)}. Lower the level, or leave it out."
        )
    return [Row(code, candidates[code], own, reasons[code]) for code, own in zip(codes, given, strict=True)]


def _require_zeros(codes: Collection[str], correspondence: Correspondence, place: str) -> None:
    """Raise KjcmError if codes lost leading zeros: no code has one, and a code is in the correspondence only with zeros."""
    short = sorted(code for code in codes if code in correspondence.without_zeros)
    if short and not any(code.startswith("0") for code in codes):
        raise KjcmError(
            f"{place}: the codes {some(short)} lost leading zeros, as in {correspondence.without_zeros[short[0]]!r}. Store "
            "codes as text. Leave coarser codes out."
        )


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
        accelerator=config.accelerator, precision=config.precision, least=config.triage.least_probability,
    )  # fmt: skip


def _write(rows: Sequence[Row], source: Path, target: Path, options: ReadOptions, *, overwrite: bool) -> None:
    """Write the file with the rows' new columns.

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


def _record(rows: Sequence[Row], rules: Rules, correspondence: Correspondence, config: RecodeConfig) -> dict[str, Any]:
    """Return what was done, with the promise."""
    single = [row for row in rows if len(row.candidates) == 1 and row.given]
    held, last = tested(rows), last_passed(rules.tried)
    listed = [row for row in held if rules.lists(row)]
    return {
        "from": config.from_,
        "to": config.to,
        "correspondence": correspondence.name,
        "run": config.run,
        "rows": len(rows),
        "decisions": dict(counts_of(rows)),
        "reasons": dict(Counter(row.reason for row in rows if row.reason and row.decision == "undecided")),
        "one_to_one_coded_both_ways": len(single),
        "one_to_one_agree": sum(row.given in row.candidates for row in single),
        "triage": {
            "rows_coded_both_ways": len(held),
            "right": sum(row.ranked[0] == row.given for row in held),
            "listed": len(listed),
            "on_list": sum(row.given in row.ranked[: rules.k] for row in listed),
            "target_error": config.triage.target_error,
            "confidence": config.triage.confidence,
            "threshold": None if rules.doubt is None else round(max(1 - rules.doubt, 0.0), 9),
            "accepted_of_these": last.rows if last else None,
            "wrong_of_these": last.errors if last else None,
        },
    }


def _log(record: Mapping[str, Any], correspondence: Correspondence, target: Path) -> None:
    """Log the counts and the promise."""
    rows, triage = record["rows"], record["triage"]
    if correspondence.lost:
        alone = sum(not partners for partners in correspondence.pairs.values())
        log.warning(
            "The next correspondence has no partner for %s on the way: %s. Other partners share the weight; rows of %s "
            "without other partners stay undecided.",
            counted(len(correspondence.lost), "code"), some(correspondence.lost), counted(alone, "code"),
        )  # fmt: skip
    shares = [f"{name} {n:,} ({100 * n / max(rows, 1):.0f} %)" for name, n in record["decisions"].items() if n]
    log.info("%s: %s", counted(rows, "row"), ", ".join(shares))
    for reason, count in record["reasons"].items():
        log.info("undecided, %s: %s", reason, f"{count:,}")
    if record["one_to_one_coded_both_ways"]:
        log.info(
            "rows with one candidate, coded both ways: %s of %s agree",
            f"{record['one_to_one_agree']:,}", f"{record['one_to_one_coded_both_ways']:,}",
        )  # fmt: skip
    both = counted(triage["rows_coded_both_ways"], "row")
    if triage["rows_coded_both_ways"]:
        log.info(
            "%s with several candidates, coded both ways: the likeliest is right for %s; the right code is on %s of %s",
            both, f"{triage['right']:,}", f"{triage['on_list']:,}", counted(triage["listed"], "list"),
        )  # fmt: skip
    if triage["accepted_of_these"]:
        log.info(
            "promise: at most %.4g %% of the accepted rows are wrong (%.4g %% confidence, if they are like these rows)",
            100 * triage["target_error"], 100 * triage["confidence"],
        )  # fmt: skip
    elif triage["target_error"] is not None:
        log.warning(
            "triage.target_error=%g: no share of the %s coded both ways passed the test, so no row is accepted. Raise the "
            "target, or code more rows by hand.",
            triage["target_error"], both,
        )  # fmt: skip
    elif record["decisions"]["accept"]:
        log.warning("The accepted rows have no promise: it needs triage.target_error and rows coded both ways.")
    log.info("rows with their new codes: %s", target)
