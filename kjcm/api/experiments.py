"""Train, sweep, list and report from Python."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kjcm.api.composing import Configured, composed, hydra_apart, overrides_of, require_overrides
from kjcm.cli import hydra_run
from kjcm.commands import COMMANDS, SWEPT
from kjcm.errors import ConfigError, Interrupted, KjcmError
from kjcm.files import existing
from kjcm.keys.commands.reports import ReportConfig
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import typed
from kjcm.keys.models import EncoderConfig
from kjcm.run_folder.contents import run_config, run_measured, run_predictions
from kjcm.run_folder.listing import NOT_A_SETTING, frame_of
from kjcm.run_folder.states import Entry, entry_of, leaves, metrics_of, run_paths
from kjcm.shell import command_line
from kjcm.sweeps.job import has_processes
from kjcm.training.run import folder_of

if TYPE_CHECKING:
    from kjcm.api.coder import OccupationCoder
    from kjcm.sweeps.sweep import Sweep

# Hydra's settings of logs would close the handlers of the program's log
NO_LOGS = ("hydra.job_logging.root=null", "hydra.hydra_logging.root=null")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder, absolute.
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
        """Return the test rows with their codes and the model's (predictions.parquet).

        Raises:
            KjcmError: the run has no test rows, or the file is damaged.
        """
        if not (self.path / "predictions.parquet").is_file():
            raise KjcmError(f"{self.path}: no predictions.parquet: the run has no test rows (evaluate=false).")
        return run_predictions(self.path)

    def load(self, **keys: Any) -> "OccupationCoder":
        """Return its model, ready to code texts; arguments as in `kjcm.load`."""
        from kjcm.api.coder import load

        return load(self.path, **keys)


def train(config: Configured, callbacks: Sequence[Any] = ()) -> Run:
    """Train and evaluate a model in this process and return its run. A finished run is not trained again.

    The logger `kjcm` logs the progress: logging.basicConfig(level="INFO") shows it.

    Args:
        config: what `kjcm.config("train", ...)` returned, edited or not, or the overrides.
        callbacks: Lightning callbacks in addition to the config's, for encoders.

    Raises:
        ConfigError: the config is not allowed, or needs several processes.
        KjcmError: the data, the system or the run folder is unusable.
        KeyboardInterrupt: Ctrl-C; what was done is saved, and the same call resumes.
    """
    overrides = overrides_of("train", config)
    with composed("train", overrides) as cfg, _ctrl_c():
        own = typed(cfg, TrainConfig)
        if has_processes(own):
            raise ConfigError(
                "kjcm.train trains in this process, so on one device. Set trainer.devices=1, or start "
                f"{command_line(['kjcm', 'train', *overrides])}"
            )
        if callbacks and not isinstance(own.model, EncoderConfig):
            raise ConfigError("callbacks: Lightning's are of encoders, and this model is none. Leave them out.")
        run = Run(folder_of(own).path.resolve())
        from kjcm.training.train import train as trained

        with _torch_restored():
            trained(cfg, callbacks)
        return run


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt after Ctrl-C, as programs expect."""
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.signal == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _torch_restored() -> Iterator[None]:
    """Restore what a training changes in torch and in Python's warnings: random state, deterministic algorithms, filters."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    try:
        with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark


def sweep(overrides: Sequence[str], command: str = "train") -> pd.DataFrame:
    """Run `kjcm COMMAND -m OVERRIDES` and return its table: state, metrics and folder of each job, also of failed ones.

    A run that belongs to several jobs is listed once. Jobs in other processes log only into their run folders.

    Args:
        overrides: as on the command line, without quotes for the shell: ["seed=0,1,2", "model=tiny,linear"].
        command: 'train' or 'baseline'.

    Raises:
        ConfigError: no job can be composed, or the sweep is not allowed.
        KeyboardInterrupt: Ctrl-C; what was done is saved, and the same call resumes.
    """
    if command not in SWEPT:
        raise ConfigError(f"sweep: {command!r} has no sweeps. Give {' or '.join(SWEPT)}.")
    given = require_overrides(overrides)
    ended: list[Sweep] = []
    with hydra_apart(), _ctrl_c():
        hydra_run(COMMANDS[command], [*given, *NO_LOGS, "-m"], ended.append)
    return _inferred(ended[0].entries)


def runs(folder: str | Path = "runs") -> pd.DataFrame:
    """Return a table of all runs in a folder and up to two folders deep: state, config, metrics, seconds and folder.

    A config key is a column, as `model.lr`; it is missing (NaN or None) for runs without this key. `attrs["metrics"]` names
    the columns of metrics, those of validation rows with the prefix `validation_`.

    Raises:
        KjcmError: no such folder.
    """
    entries = [entry_of(path) for path in run_paths(existing(str(folder)))]
    keys = dict.fromkeys(key for entry in entries for key, _ in leaves(entry.config) if key not in NOT_A_SETTING)
    return _inferred(entries, [*keys])


def _inferred(entries: Sequence[Entry], more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table of runs whose columns have their own types."""
    frame = frame_of(entries, more)
    found = frame.infer_objects()
    found.attrs = frame.attrs
    return found


def report(config: Configured) -> Path:
    """Build the report of finished runs, as `kjcm report` does, and return its page.

    Args:
        config: what `kjcm.config("report", ...)` returned, or the overrides, as ["runs=runs", "out=out/report"].

    Raises:
        ConfigError: the config is not allowed.
        KjcmError: there are no runs to report, or `out` contains something else.
    """
    from kjcm.reporting.report import build_report

    overrides = overrides_of("report", config)
    with composed("report", overrides) as cfg:
        return build_report(typed(cfg, ReportConfig), overrides)
