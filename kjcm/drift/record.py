"""Records of a comparison and of an estimate, and how they are printed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kjcm.drift.comparison import Found, Moved
from kjcm.drift.rows import CONFIDENCE, File
from kjcm.drift.sampling import HELD, OPEN, REFUTED, Estimate
from kjcm.errors import counted
from kjcm.keys.commands.drift import DriftConfig
from kjcm.run_folder.model_folder import Settings
from kjcm.shell import command_line
from kjcm.triage.calibration import Probabilities
from kjcm.triage.rules import ACCEPT, DECISIONS, INVALID, Triage

LENGTHS = ("characters", "tokens", "words")  # features that are no shares
MOST_MOVED = 10  # groups in the table

log = logging.getLogger("kjcm")


def comparison_record(
    held: Probabilities,
    held_compared: int,
    file: File,
    triage: Triage,
    found: Sequence[Found],
    moved: Sequence[Moved],
    config: DriftConfig,
    settings: Settings,
) -> dict[str, Any]:
    """Return what was compared and found; all of it is numbers, codes and titles.

    `held` has all held-out rows, and `held_compared` of them were compared.
    """
    level = 1 - config.triage.confidence
    sure = held.max(axis=1)
    accepted = triage.decide(held).decision == ACCEPT
    own = file.coded.decision == ACCEPT
    decisions = np.bincount(file.coded.decision, minlength=len(DECISIONS)).tolist()
    return {
        "run": config.run,
        "input": config.input,
        "synthetic": settings.synthetic,
        "rows": len(file.majors),
        "rows_invalid": decisions[INVALID],
        "rows_compared": len(file.measured.probability),
        "held_rows": len(held),
        "held_rows_compared": held_compared,
        "confidence": config.triage.confidence,
        "exchanges": config.exchanges,
        "seed": config.seed,
        "target_error": config.triage.target_error,
        "threshold": triage.threshold,
        "decisions": dict(zip(DECISIONS, decisions, strict=True)),
        "accepted": {"held": _share(accepted), "file": _share(own[file.coded.decision != INVALID])},
        "expected_error_of_accepted": {
            "held": 1 - float(sure[accepted].mean()) if accepted.any() else None,
            "file": 1 - float(file.coded.prob[own, 0].astype(float).mean()) if own.any() else None,
        },
        "differs": [one.name for one in found if one.adjusted <= level],
        "tests": [{name: _plain(value) for name, value in asdict(one).items()} for one in found],
        "groups": [
            {**{name: _plain(value) for name, value in asdict(one).items()}, "title": settings.titles.get(one.code, "")}
            for one in moved
        ],
    }


def _share(values: Any) -> float:
    return float(values.mean()) if len(values) else 0.0


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value


def log_comparison(record: Mapping[str, Any], *, sampled: bool) -> None:
    """Print the tests, the groups that moved most, and the verdict; `sampled`: an audit sample follows."""
    percent = f"{100 * record['confidence']:.4g} %"
    log.info(
        "%s of the file, %s compared with %s held-out rows of the run",
        counted(record["rows"], "row"), f"{record['rows_compared']:,}", f"{record['held_rows_compared']:,}",
    )  # fmt: skip
    if record["rows_invalid"]:
        log.info("%s left out: no text to code", counted(record["rows_invalid"], "row"))
    _table(
        ["mean", "held-out", "file", f"difference ({percent})", "p", "finds from"],
        [_test_cells(one) for one in record["tests"]],
    )
    log.info(
        "p: adjusted for all %d tests. A file like the held-out rows has a p of %.4g or less with a chance of at most %.4g %%.",
        len(record["tests"]), 1 - record["confidence"], 100 * (1 - record["confidence"]),
    )  # fmt: skip
    log.info(
        "finds from: the smallest difference that the test finds with a chance of 80 %; for major groups and codes,"
    )
    log.info("the share of the rows that one of them gains")
    level = 1 - record["confidence"]
    sure = [one for one in record["groups"] if one["adjusted"] <= level]
    if sure:
        _table(
            ["group", "held-out", "file", f"difference ({percent})", "p", ""],
            [_group_cells(one) for one in sure[:MOST_MOVED]],
        )
        log.info("groups that moved: %d of %d with 5 rows or more", len(sure), len(record["groups"]))
    accepted, errors = record["accepted"], record["expected_error_of_accepted"]
    log.info(
        "accepted: %s of the held-out rows, %s of the file; wrong among them by their probabilities: %s and %s",
        *map(_percent, (accepted["held"], accepted["file"], errors["held"], errors["file"])),
    )  # fmt: skip
    if record["differs"]:
        log.warning(
            "verdict: the file differs from the run's held-out rows, in %s. Promises made on these rows may not hold for it%s",
            ", ".join(map(_title, record["differs"])),
            "." if sampled else ". Check it on an audit sample: sample=FILE.",
        )
    else:
        log.info("verdict: no difference found between the file and the run's held-out rows")
    if record["synthetic"]:
        log.info("the model was trained on SYNTHETIC data")


def _test_cells(one: Mapping[str, Any]) -> list[str]:
    name = one["name"]
    shown = _length if name in LENGTHS else _percent
    if one["held"] is None:
        return [name, "", "", "", _p(one["adjusted"]), _percent(one["detectable"])]
    return [
        _title(name),
        shown(one["held"]),
        shown(one["file"]),
        _ends(one, shown),
        _p(one["adjusted"]),
        shown(one["detectable"]),
    ]


def _title(name: str) -> str:
    return "top probability" if name == CONFIDENCE else name


def _group_cells(one: Mapping[str, Any]) -> list[str]:
    return [
        one["code"], _percent(one["held"]), _percent(one["file"]), _ends(one, _percent), _p(one["adjusted"]), one["title"],
    ]  # fmt: skip


def _ends(one: Mapping[str, Any], shown: Any) -> str:
    return f"{shown(one['low']).removesuffix(' %')} to {shown(one['high'])}"


def _length(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        words = place in (0, len(headings) - 1) and not heading.startswith("finds")
        table.add_column(heading, justify="left" if words else "right", no_wrap=place < len(headings) - 1)
    for line in lines:
        table.add_row(*line)
    Console(markup=False, highlight=False).print(table)


def log_sample(about: Mapping[str, Mapping[str, Any]], config: DriftConfig) -> None:
    """Print the sizes of an audit sample, and what to do with it."""
    for decision, one in about.items():
        log.info(
            "audit sample, %s: %s of %s, in proportion to the predicted major groups; half width about %.4g %% if "
            "%.1f %% are wrong",
            decision, counted(one["sampled"], "row"), f"{one['rows']:,}", 100 * config.half_width, 100 * one["expected_error"],
        )  # fmt: skip
    rules, run = config.triage, f"run={config.run}"
    review = ["kjcm", "review", run, f"input={config.sample}"]
    promise = [] if rules.target_error is None else [f"triage.target_error={rules.target_error:g}"]
    promise.append(f"triage.confidence={rules.confidence:g}")
    commands = (
        [*review, f"decisions=[{','.join(about)}]"],
        [*review, "export=reviewed.csv"],
        ["kjcm", "drift", run, "audited=reviewed.csv", *promise],
    )
    log.info("next:\n%s", "\n".join(map(command_line, commands)))


def estimate_record(found: Estimate, decision: str, config: DriftConfig) -> dict[str, Any]:
    """Return an estimate, with the verdict on the promise for accepted rows."""
    target = config.triage.target_error
    promised = decision == DECISIONS[ACCEPT] and target is not None
    return {**asdict(found), "verdict": found.verdict(target) if promised and target is not None else None}


def log_estimates(found: Mapping[str, Mapping[str, Any]], config: DriftConfig) -> None:
    """Print the estimates and the verdict."""
    for decision, one in found.items():
        log.info(
            "%s: %s of %s reviewed, %s wrong: %s (%.4g %% interval %s to %s)",
            decision, f"{one['sampled'] - one['unclear']:,}", counted(one["sampled"], "sampled row"), f"{one['wrong']:,}",
            _percent(one["error"]), 100 * config.triage.confidence, _percent(one["low"]).removesuffix(" %"),
            _percent(one["high"]),
        )  # fmt: skip
        if one["unclear"]:
            log.warning(
                "%s without a usable review: the interval allows for both, right and wrong. Review them.",
                counted(one["unclear"], "row"),
            )
        if one["verdict"] is not None:
            advice = "Review the unclear rows first." if one["unclear"] else "Review a larger sample (half_width)."
            target = f"{100 * (config.triage.target_error or 0):.4g} %"
            said = {
                HELD: f"kept in this file: at most {target} of the {one['rows']:,} accepted rows are wrong",
                OPEN: f"open: the interval contains the target of {target}. {advice}",
                REFUTED: f"not kept in this file: more than {target} of the {one['rows']:,} accepted rows are wrong",
            }
            log.info("verdict: %s", said[one["verdict"]])
