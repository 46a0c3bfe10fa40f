"""Count what was decided, and log the counts with the promise."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kjcm.errors import counted, some
from kjcm.keys.commands.recoding import RecodeConfig
from kjcm.ksco.correspondence import Correspondence
from kjcm.recoding.decisions import Row, Rules, counts_of, tested
from kjcm.triage.thresholds import last_passed

log = logging.getLogger("kjcm")


def record_of(
    rows: Sequence[Row], rules: Rules, correspondence: Correspondence, config: RecodeConfig
) -> dict[str, Any]:
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
        "reasons": _reasons(rows, "undecided"),
        "not_weighed": _reasons(rows, "weights"),
        "one_to_one_coded_both_ways": len(single),
        "one_to_one_agree": sum(row.given in row.candidates for row in single),
        "triage": {
            "rows_coded_both_ways": sum(row.given != "" and len(row.candidates) > 1 for row in rows),
            "rows_weighed_by_run": len(held),
            "right": sum(row.ranked[0] == row.given for row in held),
            "listed": len(listed),
            "on_list": sum(row.given in row.ranked[: rules.k] for row in listed),
            "managers": config.triage.managers,
            "target_error": config.triage.target_error,
            "confidence": config.triage.confidence,
            "threshold": None if rules.doubt is None else round(max(1 - rules.doubt, 0.0), 9),
            "accepted_of_these": last.rows if last else None,
            "wrong_of_these": last.errors if last else None,
        },
    }


def _reasons(rows: Sequence[Row], decision: str) -> dict[str, int]:
    """Return reason -> number of rows of a decision that have it."""
    return dict(Counter(row.reason for row in rows if row.reason and row.decision == decision))


def log_record(record: Mapping[str, Any], correspondence: Correspondence, target: Path) -> None:
    """Log the counts and the promise."""
    rows, triage = record["rows"], record["triage"]
    if correspondence.lost:
        alone = sum(not partners for partners in correspondence.pairs.values())
        log.warning(
            "The next correspondence has no partner for %s on the way: %s. Other partners share the weight%s.",
            counted(len(correspondence.lost), "code"), some(correspondence.lost),
            f"; rows of {counted(alone, 'code')} without other partners stay undecided" if alone else "",
        )  # fmt: skip
    shares = [f"{name} {n:,} ({100 * n / max(rows, 1):.0f} %)" for name, n in record["decisions"].items() if n]
    log.info("%s%s", counted(rows, "row"), f": {', '.join(shares)}" if shares else "")
    for what, reasons in (("undecided", record["reasons"]), ("not weighed by the run", record["not_weighed"])):
        for reason, count in reasons.items():
            log.info("%s, %s: %s", what, reason, f"{count:,}")
    if record["one_to_one_coded_both_ways"]:
        log.info(
            "rows with one candidate, coded both ways: %s of %s agree",
            f"{record['one_to_one_agree']:,}", f"{record['one_to_one_coded_both_ways']:,}",
        )  # fmt: skip
    if record["run"] and triage["rows_coded_both_ways"]:
        log.info(
            "%s with several candidates, coded both ways; the run weighed %s: the likeliest is right for %s; the right code is "
            "on %s of %s",
            counted(triage["rows_coded_both_ways"], "row"), f"{triage['rows_weighed_by_run']:,}", f"{triage['right']:,}",
            f"{triage['on_list']:,}", counted(triage["listed"], "list"),
        )  # fmt: skip
    if triage["accepted_of_these"]:
        log.info(
            "promise: at most %.4g %% of the accepted rows are wrong (%.4g %% confidence, if they are like these rows)",
            100 * triage["target_error"], 100 * triage["confidence"],
        )  # fmt: skip
    elif triage["target_error"] is not None:
        log.warning(
            "triage.target_error=%g: no share of the %s coded both ways that the run weighed passed the test, so no row is "
            "accepted. Raise the target, or code more rows by hand.",
            triage["target_error"], counted(triage["rows_weighed_by_run"], "row"),
        )  # fmt: skip
    elif record["decisions"]["accept"]:
        log.warning("The accepted rows have no promise: it needs triage.target_error and rows coded both ways.")
    log.info("rows with their new codes: %s", target)
