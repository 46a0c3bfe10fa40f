"""Train, sweep, list and report from Python."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from kjcm.api.composing import Configured, composed, hydra_running, overrides_of, require_overrides
from kjcm.cli import COMMANDS, SWEPT, hydra_run
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import existing
from kjcm.keys.commands import ReportConfig, TrainConfig
from kjcm.keys.composition import typed
from kjcm.keys.refusals import checked_config
from kjcm.keys.training import EncoderConfig
from kjcm.keys.unread import require_keys, require_single
from kjcm.run_folder.contents import run_config, run_measured
from kjcm.run_folder.listing import NOT_A_SETTING, frame_of
from kjcm.run_folder.states import entry_of, leaves, metrics_of, run_paths
from kjcm.shell import command_line
from kjcm.sweeps.job import has_processes
from kjcm.training.run import folder_of

if TYPE_CHECKING:
    from kjcm.api.coder import OccupationCoder
    from kjcm.sweeps.sweep import Sweep


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
    """

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """Return its config (config.yaml)."""
        return dict(run_config(self.path))

    @property
    def report(self) -> dict[str, Any]:
        """Return what it measured (report.json)."""
        return dict(run_measured(self.path))

    @property
    def metrics(self) -> dict[str, float]:
        """Return name -> value on the test rows, and with the prefix `validation_` on the validation rows."""
        return metrics_of(self.report)

    @property
    def predictions(self) -> pd.DataFrame:
        """Return the test rows with their codes and the model's (predictions.parquet)."""
        return pd.read_parquet(self.path / "predictions.parquet")

    def load(self, **keys: Any) -> "OccupationCoder":
        """Return its model, ready to code texts; arguments as in `kjcm.load`."""
        from kjcm.api.coder import load

        return load(self.path, **keys)


def train(config: Configured, callbacks: Sequence[Any] = ()) -> Run:
    """Train and evaluate a model in this process, as `kjcm train` does, and return its run; a finished run is not trained again.

    Progress is logged by the logger `kjcm`: logging.basicConfig(level="INFO") shows it.

    Args:
        config: what `kjcm.config("train", ...)` returned, edited or not, or the overrides.
        callbacks: Lightning callbacks in addition to the config's, for encoders.

    Raises:
        ConfigError: the config is not allowed, or needs several processes.
        KjcmError: the data, the system or the run folder is unusable.
    """
    from kjcm.training.train import train as trained

    words = overrides_of("train", config)
    with hydra_running():
        whole, cfg = checked_config("train", words)
        HydraConfig.instance().set_config(whole)  # the run folder records this node
        require_keys("train", cfg)
        require_single()
        own = typed(cfg, TrainConfig)
        if has_processes(own):
            raise ConfigError(
                "kjcm.train trains in this process, so on one device. Set trainer.devices=1, or start "
                f"{command_line(['kjcm', 'train', *words])}"
            )
        if callbacks and not isinstance(own.model, EncoderConfig):
            raise ConfigError("callbacks: Lightning's are of encoders, and this model is none. Leave them out.")
        trained(cfg, callbacks)
        return Run(folder_of(own).path)


def sweep(overrides: Sequence[str], command: str = "train") -> pd.DataFrame:
    """Run `kjcm COMMAND -m OVERRIDES` and return its table: one row per job, failed ones too, with state, metrics and folder.

    Args:
        overrides: as on the command line, without its quotes: ["seed=0,1,2", "model=tiny,linear"].
        command: 'train' or 'baseline'.

    Raises:
        ConfigError: no job can be composed, or the sweep is not allowed.
    """
    if command not in SWEPT:
        raise ConfigError(f"sweep: {command!r} has no sweeps. Give {' or '.join(SWEPT)}.")
    ended: list[Sweep] = []
    with _as_before():
        hydra_run(COMMANDS[command], [*require_overrides(overrides), "-m"], ended.append)
    return frame_of(ended[0].entries)


@contextmanager
def _as_before() -> Iterator[None]:
    """Let Hydra's main function run, and restore what it changes in this process."""
    running, node = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    handlers, level = logging.root.handlers[:], logging.root.level
    GlobalHydra.instance().hydra = None
    try:
        yield
    except SystemExit as end:
        raise KjcmError("the sweep did not begin; the message above says why.") from end
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = running, node
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def runs(folder: str | Path = "runs") -> pd.DataFrame:
    """Return all runs in a folder and up to two folders deep: one row each with state, config, metrics, seconds and folder.

    A config key is a column, as `model.lr`; keys that a run does not have are None. `attrs["metrics"]` names the columns of
    metrics, those of validation rows with the prefix `validation_`.

    Raises:
        KjcmError: no such folder.
    """
    entries = [entry_of(path) for path in run_paths(existing(str(folder)))]
    keys = dict.fromkeys(key for entry in entries for key, _ in leaves(entry.config) if key not in NOT_A_SETTING)
    return frame_of(entries, [*keys]).infer_objects()


def report(config: Configured) -> Path:
    """Build the report of finished runs, as `kjcm report` does, and return its page.

    Args:
        config: what `kjcm.config("report", ...)` returned, or the overrides, as ["runs=runs", "out=out/report"].

    Raises:
        ConfigError: the config is not allowed.
        KjcmError: there are no runs to report, or `out` contains something else.
    """
    from kjcm.reporting.report import build_report

    words = overrides_of("report", config)
    return build_report(typed(composed("report", words)[1], ReportConfig), words)
