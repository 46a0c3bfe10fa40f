"""Build a model's triage rules from its stored validation logits, and log warnings and promises."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kjcm.errors import ConfigError
from kjcm.run_folder.held_out import calibration_of, held_rows
from kjcm.run_folder.model_folder import Settings
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import outlook
from kjcm.triage.rules import Options, Tree, Triage

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
    """

    options: Options
    tree: Tree
    held: Scored | None
    temperature: float
    about: Mapping[str, bool]
    titles: Mapping[str, str]

    def triage(self) -> Triage:
        """Return the rules."""
        return Triage(self.options, self.tree, self.held, self.temperature)

    def outlook(self, triage: Triage) -> dict[str, Any]:
        """Return the rules' promises and their results on the held-out rows."""
        record = outlook(triage, self.held)
        for group in (record["expected"] or {}).get("by_major_group", ()):
            group["title"] = self.titles.get(group["code"], "")
        return {**record, **self.about}


def basis_of(options: Options, folder: Path, settings: Settings) -> Basis:
    """Return everything that the rules of a model folder are made from.

    Raises:
        ConfigError: a rule needs what the model does not have.
        KjcmError: a file of the folder is damaged.
    """
    calibration, held = calibration_of(folder), held_rows(folder, settings)
    if held is not None and options.managers == "column" and not settings.columns.get("manages"):
        raise ConfigError(
            "triage.managers=column: the run was trained without data.columns.manages, so its validation rows do not say "
            "who manages. Train it with that column, or use triage.managers=words."
        )
    temperature = float(calibration["temperature"]) if calibration and options.calibrated else 1.0
    about = {name: bool((calibration or {}).get(name)) for name in ("chosen_by_validation", "clustered", "out_of_fold")}
    tree = Tree(settings.classes, settings.ancestors, settings.n_train)
    return Basis(options, tree, held, temperature, about, settings.titles)


def warn(record: Mapping[str, Any]) -> None:
    """Log the limits of the decisions."""
    rows, target, lists = record["validation_rows"], record["target_error"], record["pick_list"]
    if not rows:
        log.warning(
            "The run was trained without validation rows: its probabilities are not calibrated, and its pick lists are the "
            "top %d codes, without a promise. Train with data.validation=0.3.",
            lists["k"],
        )
    warn_of_rows(record)
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
