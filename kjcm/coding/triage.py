"""`kjcm triage`: print what a run's rules accept under each target, before coding."""

import logging
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from kjcm.coding.run_rules import Basis, basis_of, index_line, index_path, remedy, warn_of_rows
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import atomic, require_no_input
from kjcm.hub.models import model_folder
from kjcm.keys.coding import TriageConfig
from kjcm.keys.composition import typed
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import by_target
from kjcm.triage.rules import Options

log = logging.getLogger("kjcm")
NOTE = (
    "All figures are for the {rows:,} held-out rows; the top-1 code is right in {right:.1f} % of them. A promise holds for a "
    "target chosen beforehand. For a target picked from this table it is slightly too optimistic."
)


def triage(cfg: DictConfig) -> None:
    """Print which share of the run's validation rows each target accepts, and write the table as CSV to `out`.

    Raises:
        KjcmError: the run is not finished, has no validation rows, or `out` exists.
        ConfigError: a rule needs what the run does not have.
    """
    config = typed(cfg, TriageConfig)
    out = Path(config.out).expanduser() if config.out else None
    if out and out.suffix.lower() != ".csv":
        raise ConfigError(f"out={config.out}: the table is written as CSV; name a file that ends in .csv.")
    folder = model_folder(config.run)
    settings = load_settings(folder)
    if out:
        require_no_input(out, [index_path(config.triage, folder), folder], "out")
    basis = basis_of(config.triage, folder, settings)
    if basis.held is None:
        raise KjcmError(
            f"run={config.run}: trained without validation rows, so its errors are unknown. {remedy(settings)}"
        )
    if basis.matched:
        log.info("%s", index_line(basis.matched, basis.options.confidence))
    if not len(basis.held.labels):
        raise KjcmError("triage.index=accept: no held-out row is left for the model. Use triage.index=suggest or off.")
    warn_of_rows({"validation_rows": len(basis.held.labels), **basis.about, "index": basis.matched})
    frame = pd.DataFrame(by_target(basis.options, basis.tree, basis.held, basis.temperature, config.targets))
    show(frame, basis.options)
    log.info("%s", NOTE.format(rows=len(basis.held.labels), right=100 * _accuracy(basis, basis.held)))
    if out:
        with atomic(out, config.overwrite) as file:
            frame.to_csv(file, index=False)
        log.info("the table as CSV: %s", out)


HEADINGS = {
    "accepted": "accepted",
    "accepted_error": "wrong",
    "accepted_error_at_most": "at most",
    "backed_off": "backed off",
    "backed_off_error": "wrong parent",
    "with_list": "lists",
    "mean_list_length": "codes",
    "right_code_on_list": "right",
    "undecided": "search",
}


LEGEND = {  # lines under the table, shown if their column is
    "accepted": "p >= {threshold:g}: the fixed threshold, without a target",
    "accepted_error": "accepted: rows whose top-1 code is accepted; wrong: the share of them that is wrong; at most: the upper "
    "bound of that share ({confidence:.4g} % confidence)",
    "backed_off": "backed off: rows that get a parent; wrong parent: the share of them whose parent is wrong",
    "with_list": "lists: rows with a pick list; codes: mean length of the lists; right: the share of them with the right code",
    "undecided": "search: all other rows",
}


def show(frame: pd.DataFrame, options: Options) -> None:
    """Print the table and what its columns mean."""
    from rich.console import Console
    from rich.table import Table

    threshold = options.threshold
    shown = [name for name in HEADINGS if options.back_off or not name.startswith("backed_off")]
    columns = {"target": [_target(value, threshold) for value in frame["target_error"]]}
    columns |= {HEADINGS[name]: [_cell(name, value) for value in frame[name]] for name in shown}
    table = Table(
        box=None, padding=(0, 1 if options.back_off else 2, 0, 0)
    )  # 80 characters have room for only one of these
    for heading, cells in columns.items():
        least = max(map(len, [*heading.split(), *cells]))
        table.add_column(heading, justify="left" if heading == "target" else "right", min_width=least)
    for line in zip(*columns.values(), strict=True):
        table.add_row(*line)
    Console(markup=False, highlight=False).print(table)
    for name in shown:
        if name in LEGEND:
            log.info("%s", LEGEND[name].format(threshold=threshold, confidence=100 * options.confidence))


def _target(value: float | None, threshold: float | None) -> str:
    """Return a target in percent; for the rule without a target, its threshold."""
    return f"p >= {threshold:g}" if pd.isna(value) else f"{100 * value:.4g} %"


def _accuracy(basis: Basis, held: Scored) -> float:
    """Return the share of the held rows whose top-1 code is right."""
    return float((basis.triage().probability(held).argmax(axis=1) == held.labels).mean())


def _cell(name: str, value: float | None) -> str:
    """Return a share in percent, a length as a number, nothing where there is none."""
    if pd.isna(value):
        return ""
    return f"{value:.1f}" if name == "mean_list_length" else f"{100 * value:.1f} %"
