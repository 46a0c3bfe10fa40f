"""Build a model's triage rules from its stored validation logits, and log warnings and promises."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError, counted
from kjcm.keys.coding import TriageRules
from kjcm.ksco.classification import KSCO8, UNIT_GROUPS, Classification, load_classification
from kjcm.run_folder.contents import recorded_data, run_config, run_identity
from kjcm.run_folder.held_out import calibration_of, held_rows
from kjcm.run_folder.model_folder import UNVALIDATED, Settings
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import error_rate, outlook
from kjcm.triage.rules import FIXED, Options, Tree, Triage
from kjcm.triage.titles import UNMATCHED, TitleIndex, is_managers, is_wrong, load_titles

log = logging.getLogger("kjcm")
FEW = 40  # held-out rows; with fewer no test has power
OF_AN_INDEX = {"classification.index", "data.index"}  # input files of a run


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
    if given["threshold"] is None:
        given["threshold"] = None if settings.from_titles else FIXED
    options = Options(**{"target_error": None, **given})
    if settings.from_titles and options.target_error is not None:
        raise ConfigError(
            "triage.target_error: a run from titles has no held-out answers. Leave the key out, or train on coded answers: "
            "data=table data.validation=0.3."
        )
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
    index = load_titles(path, _classification(folder, settings), settings.level)
    taken = accepted_by_index(options, held, index) if held is not None else None
    matched = index_record(options, held, index, taken)
    held = held.of(~taken) if held is not None and taken is not None else held
    return Basis(options, tree, held, temperature, about, settings.titles, index, matched)


def remedy(settings: Settings) -> str:
    """Return how to get a model with held-out rows."""
    if settings.from_titles:
        return "Train on coded answers: data=table data.validation=0.3."
    return "Train it with data.validation=0.3."


def index_path(rules: TriageRules, folder: Path) -> str | None:
    """Return the path of the index of job titles, None with triage.index=off.

    Raises:
        ConfigError: there is no index, or the run has not used its index.
    """
    if rules.index == "off":
        return None
    run = folder.parent
    path = rules.index_file
    if path is None and _is_run(run):
        path = recorded_data(run, run_config(run), own=False)[1].index
        if path is not None and not OF_AN_INDEX & set(run_identity(run)["inputs"]):  # so the path may be of another run
            raise ConfigError(
                f"triage.index={rules.index}: the run did not use its index. Give triage.index_file=FILE."
            )
    if path is None:
        raise ConfigError(
            f"triage.index={rules.index}: the run has no index of job titles. Give one with triage.index_file=FILE."
        )
    return path


def _is_run(folder: Path) -> bool:
    """Return whether a folder is a finished run's; a copy of a model folder may be in any folder."""
    return all((folder / name).is_file() for name in ("DONE", "config.yaml"))


def _classification(folder: Path, settings: Settings) -> Classification:
    """Return the classification of a model's run; without the run's folder, the package's own or codes verbatim.

    Raises:
        ConfigError: only the run's folder names the file of the codes.
        KjcmError: the classification's file is missing or damaged.
    """
    run = folder.parent
    if _is_run(run):
        _, node = recorded_data(run, run_config(run), own=False)
        return load_classification(node.name, node.path)
    ksco7 = load_classification("ksco7")
    is_ksco7 = settings.classification == ksco7.name
    if settings.classification == KSCO8 or (is_ksco7 and (settings.level or 0) > UNIT_GROUPS):
        raise ConfigError(
            "triage.index: the model's folder lacks its classification's file. Set run= to the whole run folder."
        )
    return ksco7 if is_ksco7 else Classification(settings.classification)


def accepted_by_index(options: Options, held: Scored, index: TitleIndex) -> NDArray[np.bool_] | None:
    """Return which held-out rows triage.index=accept accepts: [rows]; None if the training did not match this index."""
    if options.index != "accept" or held.index is None or held.index_sha != index.sha:
        return None
    manages = held.answers if options.managers == "column" else held.words
    barred = is_managers(held.index) & ~manages if options.managers != "none" else False
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
    record = {"mode": options.index, "file": index.file, "sha256": index.sha, "titles": len(index.by_title)}
    if held is None or held.index is None or taken is None:
        return {**record, "measured": False}
    rows, errors = int(taken.sum()), int(is_wrong(held.index[taken]).sum())
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
    index = record.get("index")
    if not rows and index and index["measured"]:
        log.warning(
            "triage.index=accept: the index accepts all %s held-out rows. None is left to test the model's codes, so they have "
            "no promise. Train with more held-out rows.",
            f"{index['held_rows']:,}",
        )
    elif not rows and record.get("from_titles"):
        limit = (
            "The model accepts and backs off no row unless you set triage.threshold, and no threshold has a promise."
            if record["threshold"] is None
            else "The threshold has no promise."
        )
        log.warning("%s %s", UNVALIDATED, limit)
    elif not rows:
        log.warning(
            "The run was trained without validation rows: its probabilities are not calibrated, and its pick lists are the "
            "top %d codes, without a promise. Train with data.validation=0.3.",
            lists["k"],
        )
    warn_of_rows(record)
    if rows and target is not None and record["threshold"] is None:
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
    index = record.get("index")
    if index and index["mode"] == "accept" and record["validation_rows"] and not index["measured"]:
        log.warning(
            "triage.index=accept: the run's held-out rows were not matched with this index. The promise is for the model without "
            "the index. Rows that the index leaves may have more errors. Train with classification.index=FILE."
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
        log.info("%s", index_line(index, record["confidence"], figures=bool(record["expected"])))
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


def index_line(index: Mapping[str, Any], confidence: float, *, figures: bool = True) -> str:
    """Return what the index of job titles does with the held-out rows, as a sentence; figures: whether figures follow."""
    titles = counted(index["titles"], "job title")
    begin = f"index: {index['file']}, {titles}, triage.index={index['mode']}"
    if index["mode"] == "suggest":
        without = "; all figures below are without them" if figures else ""
        return f"{begin}: the codes of its titles come first in the pick lists{without}"
    if not index["measured"]:
        return f"{begin}: the error rate of the rows that it accepts is unknown"
    rows = index["accepted_rows"]
    found = f"{begin}; it accepts {rows:,} of {index['held_rows']:,} held-out rows"
    if not rows:
        return found
    low, high = (100 * bound for bound in index["accepted_error_interval"])
    others = " All other figures are for the other rows." if figures and rows < index["held_rows"] else ""
    return (
        f"{found}, {100 * index['accepted_error']:.1f} % of them with a wrong code ({100 * confidence:.4g} % interval "
        f"{low:.1f} to {high:.1f} %).{others}"
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
