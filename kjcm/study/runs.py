"""`kjcm runs`: what became of all runs, as a table."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from kjcm.errors import KjcmError, counted
from kjcm.files import atomic
from kjcm.study.job import resolved
from kjcm.study.ledger import entry_of, run_paths
from kjcm.study.listing import chosen, frame_of, ordered, over_seeds, show

log = logging.getLogger("kjcm")


def runs(cfg: DictConfig) -> None:
    """Show the runs under `runs`, or what their seeds have in common, and write the table as CSV where `out` is given.

    Raises:
        KjcmError: no such folder, no such run, or `out` exists.
        ConfigError: a key or column that no run has.
    """
    config = resolved(cfg)
    entries = [entry_of(path) for path in run_paths(Path(config["runs"]))]
    found = chosen(entries, config["where"] or {})
    if not found:
        raise KjcmError(f"runs={config['runs']}: {counted(len(entries), 'run')}, and none of them is such a one.")
    more = config["columns"]
    frame = ordered((over_seeds if config["group"] else frame_of)(found, more), config["sort"])
    if frame.empty:
        raise KjcmError(
            f"runs={config['runs']}: {len(found)} such runs, none of them finished, so no seeds to compare."
        )
    states = ", ".join(
        f"{sum(one.state == state for one in found)} {state}" for state in sorted({one.state for one in found})
    )
    show(frame, f"{counted(len(found), 'run')}: {states}", more)
    if config["out"]:
        with atomic(Path(config["out"]).expanduser(), config["overwrite"]) as file:
            frame.to_csv(file, index=False)
        log.info("the table as CSV: %s", config["out"])
