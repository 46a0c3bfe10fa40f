"""`kjcm runs`: status of all runs, as a table."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from kjcm.errors import ConfigError, KjcmError, counted
from kjcm.files import atomic, without_formulas
from kjcm.keys.commands.reports import RunsConfig
from kjcm.keys.composition import typed
from kjcm.run_folder.listing import chosen, column_of, frame_of, key_of, ordered, over_seeds
from kjcm.run_folder.states import entry_of, leaves, run_paths
from kjcm.run_folder.terminal import show

log = logging.getLogger("kjcm")


def runs(cfg: DictConfig) -> None:
    """Show the runs under `runs`, or what their seeds have in common, and write the table as CSV where `out` is given.

    Raises:
        KjcmError: no such folder, no such run, or `out` exists.
        ConfigError: a key or column that no run has.
    """
    config = typed(cfg, RunsConfig)
    if config.out and Path(config.out).suffix.lower() != ".csv":
        raise ConfigError(f"out={config.out}: the table is written as CSV; name a file that ends in .csv.")
    entries = [entry_of(path) for path in run_paths(Path(config.runs))]
    found = chosen(entries, config.where or {})
    if not found:
        such = "none of them is such a one" if entries else "kjcm train, baseline or tune make some"
        raise KjcmError(f"runs={config.runs}: {counted(len(entries), 'run')}; {such}.")
    sort = key_of(config.sort, found) if config.sort else None
    more = [key_of(name, found) for name in config.columns]
    further = [sort] if sort and any(sort in dict(leaves(entry.config)) for entry in found) else []
    columns = [*more, *further]
    frame = over_seeds(found, columns, folds=config.group == "fold") if config.group else frame_of(found, columns)
    frame = ordered(frame, sort)
    if frame.empty:
        raise KjcmError(f"runs={config.runs}: {len(found)} such runs, none of them finished, so no seeds to compare.")
    states = ", ".join(
        f"{sum(one.state == state for one in found)} {state}" for state in sorted({one.state for one in found})
    )
    shown = [column_of(frame, name) for name in (*more, sort)]
    show(frame, f"{counted(len(found), 'run')}: {states}", [name for name in shown if name])
    if config.out:
        with atomic(Path(config.out).expanduser(), config.overwrite) as file:
            without_formulas(frame).to_csv(
                file, index=False, encoding="utf-8-sig"
            )  # spreadsheet programs want the BOM for Hangul
        log.info("the table as CSV: %s", config.out)
