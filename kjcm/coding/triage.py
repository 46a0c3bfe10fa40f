"""`kjcm triage`: what a run's rules accept under each target, before anything is coded."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from kjcm.coding.rules import basis_of, warn_of_rows
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import atomic
from kjcm.study.model_folder import finished_run, load_settings
from kjcm.triage.outlook import by_target

log = logging.getLogger("kjcm")
NOTE = (
    "All figures are of the {rows:,} validation rows. The promise holds for a target chosen beforehand. For a target picked "
    "from this table it is a little too good."
)


def triage(cfg: DictConfig) -> None:
    """Print what each target accepts of the run's validation rows, and write the table as CSV where `out` is given.

    Raises:
        KjcmError: the run is not finished, has no validation rows, or `out` exists.
        ConfigError: a rule needs what the run does not have.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    out = Path(config["out"]).expanduser() if config["out"] else None
    if out and out.suffix.lower() != ".csv":
        raise ConfigError(f"out={config['out']}: the table is written as CSV; name a file that ends in .csv.")
    run = finished_run(config["run"])
    basis = basis_of({**config["triage"], "target_error": None}, run, load_settings(run / "model"))
    if basis.held is None:
        raise KjcmError(
            f"{run}: trained without validation rows, so nothing is known of its errors. Train it with data.validation=0.3."
        )
    warn_of_rows({"validation_rows": len(basis.held.labels), **basis.about})
    frame = pd.DataFrame(by_target(basis.options, basis.tree, basis.held, basis.temperature, config["targets"]))
    show(frame, basis.options.threshold, backs_off=bool(basis.options.back_off))
    log.info("%s", NOTE.format(rows=len(basis.held.labels)))
    if out:
        with atomic(out, config["overwrite"]) as file:
            frame.to_csv(file, index=False)
        log.info("the table as CSV: %s", out)


HEADINGS = {
    "accepted": "accepted",
    "accepted_error": "wrong",
    "accepted_error_at_most": "at most",
    "backed_off": "backed off",
    "with_list": "lists",
    "mean_list_length": "codes",
    "right_code_on_list": "right",
    "undecided": "search",
}
TITLE = (
    "of the validation rows: accepted, wrong of those (at most: the bound that the promise uses), with a pick list, "
    "codes on it, right code on it, left to search for"
)


def show(frame: pd.DataFrame, threshold: float, *, backs_off: bool) -> None:
    """Print the table; `backs_off`: whether rows can back off to a parent."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=TITLE, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("target")
    shown = [name for name in HEADINGS if backs_off or name != "backed_off"]
    for name in shown:
        table.add_column(HEADINGS[name], justify="right")
    for line in frame.to_dict("records"):
        target = line["target_error"]
        first = f"p >= {threshold:g}" if pd.isna(target) else f"{100 * target:.4g} %"
        table.add_row(first, *(_cell(name, line[name]) for name in shown))
    Console(markup=False, highlight=False).print(table)


def _cell(name: str, value: float | None) -> str:
    """Return a share in percent, a length as a number, nothing where there is none."""
    if pd.isna(value):
        return ""
    return f"{value:.1f}" if name == "mean_list_length" else f"{100 * value:.1f} %"
