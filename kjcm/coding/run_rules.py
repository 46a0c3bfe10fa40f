"""Build a model's triage rules from its stored validation logits, and log warnings and promises."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.keys.coding import TriageRules
from kjcm.ksco.classification import Classification, load_classification
from kjcm.run_folder.contents import recorded_data, run_config
from kjcm.run_folder.held_out import calibration_of, held_rows
from kjcm.run_folder.model_folder import UNVALIDATED, Settings
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import error_rate, outlook
from kjcm.triage.rules import Options, Tree, Triage
from kjcm.triage.titles import MANAGING, UNMATCHED, WRONG, TitleIndex, load_titles

log = logging.getLogger("kjcm")
FEW = 40  # held-out rows; with fewer no test has power


@dataclass(frozen=True)
class Basis:
    """Everything that a model's rules are made from.

    Attributes:
        options: the keys.
        tree: the model's classes.
        held: held-out rows with logits, see `kjcm.run_folder.held_out`; None for a run without them.
        temperature: divides the logits.
        about: the calibration's entries on these rows: chosen_by_validation, clustered, out_of_fold.
        titles: code -> title.
        index: of job titles; None: none.
        matched: what the index would do with the held-out rows (`index_record`); None without an index.
    """

    options: Options
    tree: Tree
    held: Scored | None
    temperature: float
    about: Mapping[str, bool]
    titles: Mapping[str, str]
    index: TitleIndex | None = None
    matched: Mapping[str, Any] | None = None

    def triage(self) -> Triage:
        """Return the rules."""
        return Triage(self.options, self.tree, self.held, self.temperature)

    def outlook(self, triage: Triage) -> dict[str, Any]:
        """Return the rules' promises and their results on the held-out rows."""
        record = outlook(triage, self.held)
        for group in (record["expected"] or {}).get("by_major_group", ()):
            group["title"] = self.titles.get(group["code"], "")
        return {**record, **self.about, **({"index": self.matched} if self.matched else {})}


def basis_of(rules: TriageRules, folder: Path, settings: Settings) -> Basis:
    """Return everything that the rules of a model folder are made from.

    With triage.index=accept only the held-out rows that are left for the model set its thresholds, if the training has
    matched these rows with the same index.

    Raises:
        ConfigError: a rule needs what the model does not have.
        KjcmError: a file of the folder or the index is damaged.
    """
    given = {name: value for name, value in vars(rules).items() if name != "index_file"}
    options = Options(**{"target_error": None, **given})
    calibration, held = calibration_of(folder), held_rows(folder, settings)
    if held is not None and options.managers == "column" and not settings.columns.get("manages"):
        raise ConfigError(
            "triage.managers=column: the run was trained without data.columns.manages, so its validation rows do not say "
            "who manages. Train it with that column, or use triage.managers=words."
        )
    temperature = float(calibration["temperature"]) if calibration and options.calibrated else 1.0
    about = {name: bool((calibration or {}).get(name)) for name in ("chosen_by_validation", "clustered", "out_of_fold")}
    about |= {"from_titles": True} if settings.from_titles else {}
    tree = Tree(settings.classes, settings.ancestors, settings.n_train)
    path = index_path(rules, folder)
    if path is None:
        return Basis(options, tree, held, temperature, about, settings.titles)
    index = load_titles(path, _classification(settings), settings.level)
    taken = accepted_by_index(options, held, index) if held is not None else None
    matched = index_record(options, held, index, taken)
    held = held.of(~taken) if held is not None and taken is not None else held
    return Basis(options, tree, held, temperature, about, settings.titles, index, matched)


def index_path(rules: TriageRules, folder: Path) -> str | None:
    """Return the path of the index of job titles, None with triage.index=off.

    Raises:
        ConfigError: there is no index.
    """
    if rules.index == "off":
        return None
    run = folder.parent
    path = rules.index_file
    if path is None and (run / "config.yaml").is_file():
        path = recorded_data(run, run_config(run), own=False)[1].index
    if path is None:
        raise ConfigError(
            f"triage.index={rules.index}: the run has no index of job titles. Give one with triage.index_file=FILE."
        )
    return path


def _classification(settings: Settings) -> Classification:
    """Return a model's classification: the package's own, or one that takes the index's codes verbatim."""
    ksco7 = load_classification("ksco7")
    return ksco7 if settings.classification == ksco7.name else Classification(settings.classification)


def accepted_by_index(options: Options, held: Scored, index: TitleIndex) -> NDArray[np.bool_] | None:
    """Return which held-out rows triage.index=accept accepts: [rows]; None if the training did not match this index."""
    if options.index != "accept" or held.index is None or held.index_sha != index.sha:
        return None
    manages = held.answers if options.managers == "column" else held.words
    barred = (held.index >= MANAGING) & ~manages if options.managers != "none" else False
    return np.asarray((held.index != UNMATCHED) & ~barred, bool)


def index_record(
    options: Options, held: Scored | None, index: TitleIndex, taken: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return which index is used, and the errors of the held-out rows that it accepts.

    Args:
        options: the keys.
        held: all held-out rows.
        index: of job titles.
        taken: see `accepted_by_index`.
    """
    record = {"mode": options.index, "file": index.file, "sha256": index.sha, "titles": len(index.codes)}
    if held is None or held.index is None or taken is None:
        return {**record, "measured": False}
    rows, errors = int(taken.sum()), int((held.index[taken] % MANAGING == WRONG).sum())
    rate = error_rate("accepted_error", rows, errors, 1 - options.confidence)
    return {
        **record,
        "measured": True,
        "held_rows": len(taken),
        "accepted_rows": rows,
        "accepted_errors": errors,
        **rate,
    }


def warn(record: Mapping[str, Any]) -> None:
    """Log the limits of the decisions."""
    rows, target, lists = record["validation_rows"], record["target_error"], record["pick_list"]
    if not rows and record.get("from_titles"):
        log.warning(
            "%s No threshold has a promise. Review some rows, and train on them with data.reviewed=FILE.", UNVALIDATED
        )
    elif not rows:
        log.warning(
            "The run was trained without validation rows: its probabilities are not calibrated, and its pick lists are the "
            "top %d codes, without a promise. Train with data.validation=0.3.",
            lists["k"],
        )
    warn_of_rows(record)
    index = record.get("index")
    if index and index["mode"] == "accept" and rows and not index["measured"]:
        log.warning(
            "triage.index=accept: the run's held-out rows were not matched with this index. What is promised is for the model "
            "without it; the rows that the index leaves may have more errors. Train with classification.index=FILE."
        )
    if target is not None and record["threshold"] is None:
        log.warning(
            "triage.target_error=%g: no share of the %s held-out rows passed the test, so no row is accepted. `kjcm triage` "
            "shows what other targets accept; more held-out rows help too (data.validation; in an ensemble model.costly_folds).",
            target,
            f"{rows:,}",
        )
    if rows and lists["threshold"] is None:
        log.warning(
            "triage.alpha=%g: too few of the held-out rows' lists have the right code, so no pick list is shown. Raise "
            "triage.alpha or triage.k, or train with more held-out rows.",
            lists["alpha"],
        )


def warn_of_rows(record: Mapping[str, Any]) -> None:
    """Log why the promises may be too optimistic for these held-out rows."""
    if 0 < record["validation_rows"] < FEW:
        log.warning(
            "Only %d held-out rows set the rules: too few for most targets. Train with a larger data.validation or more rows.",
            record["validation_rows"],
        )
    if record["chosen_by_validation"]:
        log.warning(
            "Early stopping chose the run's weights with the rows that set its thresholds, so the promise is slightly too "
            "optimistic. Train without callbacks=early_stopping."
        )
    if record["out_of_fold"]:
        log.warning(
            "Out-of-fold scores of training rows set the rules. The promise is approximate: models with fewer training rows made "
            "these scores, and the scores have set the ensemble's weights too. Train with data.validation=0.3 for rows that set "
            "nothing else."
        )
    if record["clustered"]:
        log.warning(
            "The rows that set the rules come in clusters of similar answers. The promises are for independent rows, so they "
            "are too optimistic here."
        )


def say(record: Mapping[str, Any]) -> None:
    """Log the promises, the summary and a table by major group."""
    if index := record.get("index"):
        log.info("%s", index_line(index, record["confidence"]))
    rows = f"{record['validation_rows']:,}"
    confidence = f"{100 * record['confidence']:.4g} % confidence"
    if promised := _promises(record):
        log.info("promise: %s (each with %s, if the input is like the %s held-out rows)", promised, confidence, rows)
    if record["target_error"] is None and record["expected"] and record["expected"]["accepted_rows"]:
        log.info(
            "bound: of the accepted rows at most %.1f %% are wrong (%s, if the input is like the %s held-out rows)",
            100 * record["expected"]["accepted_error_at_most"],
            confidence,
            rows,
        )
    for sentence in record.get("summary", ()):
        log.info("%s", sentence)
    if record["expected"]:
        for line in _groups(record["expected"]["by_major_group"]):
            log.info("%s", line)


def index_line(index: Mapping[str, Any], confidence: float) -> str:
    """Return what the index of job titles does with the held-out rows, as a sentence."""
    begin = f"index: {index['titles']:,} job titles, triage.index={index['mode']}"
    if index["mode"] == "suggest":
        return f"{begin}: their codes come first in the pick lists"
    if not index["measured"]:
        return f"{begin}: the error rate of the rows that it accepts is unknown"
    rows = index["accepted_rows"]
    found = f"{begin}; it accepts {rows:,} of {index['held_rows']:,} held-out rows"
    if not rows:
        return found
    low, high = (100 * bound for bound in index["accepted_error_interval"])
    return (
        f"{found}, {100 * index['accepted_error']:.1f} % of them with a wrong code ({100 * confidence:.4g} % interval "
        f"{low:.1f} to {high:.1f} %). All other figures are for the other rows."
    )


def _promises(record: Mapping[str, Any]) -> str:
    """Return the promises for coded rows and lists as text, '' without a promise."""
    parts, lists = [], record["pick_list"]
    if record["target_error"] is not None:
        most = f"at most {100 * record['target_error']:.4g} %"
        parts += [f"of the accepted rows {most} are wrong"] if record["threshold"] is not None else []
        parts += [f"of the backed-off rows {most} have a wrong parent"] if record["back_off"]["promised"] else []
    if record["validation_rows"] and lists["threshold"] is not None:
        parts.append(f"of the pick lists at most {100 * lists['alpha']:.4g} % miss the right code")
    return "; ".join(parts)


def _groups(groups: list[Mapping[str, Any]]) -> list[str]:
    """Return the figures by major group as lines of a table."""
    lines = ["major group: held-out rows, accepted, wrong among them (interval); pick lists, right code on the list"]
    for one in groups:
        wrong = right = "-"
        if one["accepted_rows"]:
            low, high = one["accepted_error_interval"]
            wrong = f"{100 * one['accepted_error']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
        if one["lists"]:
            right = f"{100 * one['right_code_on_list']:.0f} %"
        counts = (
            f"  {one['code']:<3}{one['rows']:>6,}{one['accepted_rows']:>7,}  {wrong:<16}{one['lists']:>7,}  {right:>5}"
        )
        lines.append(f"{counts}  {one['title']}")
    return lines
