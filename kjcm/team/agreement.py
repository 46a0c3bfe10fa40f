"""`kjcm team agreement`: agreement of coders with each other and with the model, and the coders' merged codes."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from kjcm.errors import ConfigError, counted
from kjcm.files import atomic, require_file, sha256, write_json
from kjcm.keys.commands.team import TeamAgreementConfig
from kjcm.keys.composition import typed
from kjcm.review.files import COMMENTS
from kjcm.team.codings import Codings, long_table, read_codings
from kjcm.team.measures import Measures, measures
from kjcm.team.note import note_of, read_note, require_free, write_note
from kjcm.team.settle import KINDS, MERGED, adjudication, divided, joined_marks, merged, settle
from kjcm.team.statistics import Value
from kjcm.write.table import Added, writer

FEW = 30  # doubly coded texts
AGREEMENT, CODES, ADJUDICATION, MERGED_FILE, RECORD = (
    "agreement.csv", "codes.csv", "adjudication.csv", "merged.csv", "agreement.json",
)  # fmt: skip

log = logging.getLogger("kjcm")


def agreement(cfg: DictConfig) -> None:
    """Write agreement.csv, agreement.json, codes.csv, adjudication.csv and merged.csv to the folder `output`.

    Raises:
        ConfigError: a file is named twice, or a result would replace an input.
        KjcmError: a file is not usable, no row has codes by two coders, or a result exists.
    """
    config = typed(cfg, TeamAgreementConfig)
    files = [require_file(file, "coder's file") for file in config.files]
    if not files or len({file.resolve() for file in files}) < len(files):
        raise ConfigError("files: name each coder's file once, as files=[kim_reviewed.csv,lee_reviewed.csv].")
    source = require_file(config.input, "divided file") if config.input else None
    judged = require_file(config.adjudicated, "adjudicated file") if config.adjudicated else None
    _require_others(files, source, judged)
    folder = Path(config.output).expanduser()
    results = [folder / name for name in (AGREEMENT, CODES, ADJUDICATION, MERGED_FILE, RECORD)]
    inputs = [*files, *filter(None, (source, judged))]
    require_free([*results, note_of(folder / ADJUDICATION)], inputs, overwrite=config.overwrite)
    codings = read_codings(files, config.id)
    found = measures(codings, files, config.replicates, config.seed)
    adjudicated = read_codings([judged], config.id) if judged else None
    settled, marks = settle(codings, adjudicated), joined_marks(codings, adjudicated)
    table = merged(divided(source, codings, config.id) if source else codings.rows, settled, marks)
    open_rows = adjudication(codings)
    _write(folder, codings, found, open_rows, table, config)
    note = read_note(source) if source else None
    if note:
        write_note(folder / ADJUDICATION, note)
    else:
        note_of(folder / ADJUDICATION).unlink(missing_ok=True)
    counts = table["settled"].value_counts()
    record = {
        "files": {str(file): sha256(file) for file in files},
        "input": str(source) if source else None,
        "adjudicated": str(judged) if judged else None,
        "rows": len(table),
        **found.record,
        "few": found.record["doubly_coded"]["texts"] < FEW,
        "settled": {kind: int(counts.get(kind, 0)) for kind in KINDS},
    }
    write_json(folder / RECORD, record)
    _log(record, open_rows, folder)


def _require_others(files: list[Path], source: Path | None, judged: Path | None) -> None:
    """Raise ConfigError if the divided or the adjudicated file is a coder's file."""
    coders = {file.resolve() for file in files}
    if source and source.resolve() in coders:
        raise ConfigError(f"input={source}: is a coder's file. Give the file that was divided.")
    if judged and judged.resolve() in coders:
        raise ConfigError(f"adjudicated={judged}: is a coder's file. Give the export of the review of {ADJUDICATION}.")


def _write(
    folder: Path,
    codings: Codings,
    found: Measures,
    open_rows: pd.DataFrame,
    table: pd.DataFrame,
    config: TeamAgreementConfig,
) -> None:
    """Write the tables; no file gets its name before all are written."""
    numbers = found.table.columns[5:]  # behind the counts
    tables = {
        AGREEMENT: (found.table, Added(dict.fromkeys(map(str, found.table), ""), numbers)),
        CODES: (long_table(codings, config.id), Added(dict.fromkeys(("coder", "code"), ""))),
        ADJUDICATION: (open_rows, Added()),
        MERGED_FILE: (table, Added(MERGED)),
    }
    with ExitStack() as stack:
        for name, (frame, added) in tables.items():
            temporary = stack.enter_context(atomic(folder / name, config.overwrite))
            with writer(temporary, None, added) as out:
                out.write(frame.reset_index(drop=True))


def _log(record: dict[str, Any], open_rows: pd.DataFrame, folder: Path) -> None:
    """Log the agreement of the coders, that of the model, what it can at most be, and the rows that are left."""
    double, level = record["doubly_coded"], str(record["levels"])
    people, model = record["between_coders"][level], record["model_on_doubly_coded"][level]
    log.info(
        "%s coded, %s by several coders (%s)",
        counted(record["coded"], "row"), f"{double['rows']:,}", counted(double["texts"], "different text"),
    )  # fmt: skip
    if left := record["in_several_files"] - double["rows"]:
        log.warning("%s in several files without two codes: not in the agreement", counted(left, "row"))
    log.info("two coders agree on %s; kappa %s", Value(**people["agreement"]).percent(), Value(**people["kappa"]))
    log.info("the model agrees with a coder on %s of the same rows", Value(**model["agreement"]).percent())
    log.info(
        "the model's agreement minus that of a second coder: %s", Value(**record["model_minus_coder"]).percent("points")
    )
    if record["model_expected_error"] is not None:
        log.info("the model expects %.1f %% wrong codes on the coded rows", 100 * record["model_expected_error"])
    log.info(
        "ceiling: %.1f %%. Where two coders differ, a model can agree with only one of them",
        100 * record["ceiling"],
    )  # fmt: skip
    if record["few"]:
        log.warning(
            "only %s doubly coded: the intervals are wide and rough. Raise overlap in `kjcm team split`.",
            counted(double["texts"], "different text"),
        )
    kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in record["settled"].items() if rows)
    log.info("%s: %s", folder / MERGED_FILE, kinds)
    if len(open_rows) and not record["adjudicated"]:
        log.info("%s to adjudicate with `kjcm review`: %s", counted(len(open_rows), "row"), folder / ADJUDICATION)
        if (open_rows[COMMENTS] != "").any():
            log.info("show=[%s] shows the coders' comments on the page", COMMENTS)
