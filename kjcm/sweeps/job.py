"""A job of a multirun, in whatever process a launcher runs it: it ends with a value, never with an exception."""

import gc
import importlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kjcm.engine.device import device_count, global_rank, one_of_several
from kjcm.engine.signals import handled
from kjcm.errors import Interrupted
from kjcm.keys.commands.train import RunConfig, TrainConfig
from kjcm.keys.composition import register, typed
from kjcm.keys.unread import SWEEP
from kjcm.run_folder.failures import Failure, read_failure, tell
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.lease import Busy, is_held, machine
from kjcm.run_folder.states import entry_of, state_of
from kjcm.screen import prefixed
from kjcm.streams import use_outlets
from kjcm.sweeps.gpus import take_gpus
from kjcm.sweeps.hooks import HOOKS, Failures
from kjcm.training.run import folder_of
from kjcm.training.trainer import without_sweep

INTERRUPTED = "interrupted"

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class SweptJob:
    """What a launcher runs for each job.

    Attributes:
        command: the kjcm command.
        target: module and function of it.
        retry: whether a job that failed before is run.
        gpus: auto, or all: a launcher's process sees all GPUs.
        home: the process that has the sweep, as `this_process` names it.
        place: the folder that it works in.
        failures: of the sweep.
        debug: whether errors show their traceback.
        names: Hydra's number of a job -> what the job is called, and the overrides that tell it from others.
    """

    command: str
    target: str
    retry: bool
    gpus: str
    home: str
    place: Path
    failures: Failures
    debug: bool
    names: Mapping[int, str]

    def __call__(self, cfg: DictConfig) -> Failure | None:
        """Run the job; return why it failed, None where it did not."""
        at_home = this_process() == self.home
        if not at_home:
            register()  # a launcher's process knows no resolvers yet
            use_outlets()
        os.chdir(self.place)  # joblib's process may be left over from another sweep, and hydra.job.chdir=true leaves it
        name = self.names[HydraConfig.get().job.num]
        if at_home:
            log.info("%s", name)
            return self._told(cfg, at_home)
        number, _, apart = name.partition(": ")
        with prefixed(f"[{number}] "):
            log.info("%s", apart or "started")
            return self._told(cfg, at_home)

    def _told(self, cfg: DictConfig, at_home: bool) -> Failure | None:
        """Run the job, and tell of its failure at once."""
        for hook in HOOKS:
            cfg.sweep[hook] = None
        failure = self._ended(cfg, at_home)
        if failure and failure.kind != INTERRUPTED and global_rank() == 0:
            config, hydra = typed(cfg, RunConfig), HydraConfig.get()
            entry = entry_of(folder_of(config).path, asdict(config), list(hydra.overrides.task))
            self.failures.add(hydra.job.num + 1, entry, failure)
        return failure

    def _ended(self, cfg: DictConfig, at_home: bool) -> Failure | None:
        try:
            return self._run(cfg)
        except Interrupted as leaving:
            if at_home:
                raise
            return Failure(INTERRUPTED, str(leaving), leaving.exit_code)
        except Busy as busy:
            log.info("%s", busy)
            return None
        except Exception as error:
            return tell(f"kjcm {self.command}", error, debug=self.debug)
        finally:
            if "trainer" in cfg:
                gc.collect()  # cycles would keep a training's memory on the device

    def _run(self, cfg: DictConfig) -> Failure | None:
        if self.failures.stopped():
            log.info("not started: %s failed jobs (sweep.stop_after)", self.failures.stop_after)
            return None
        if self.failures.stop.exists():
            raise Interrupted(SIGTERM)
        config = typed(cfg, RunConfig)
        folder = folder_of(config)
        state, reason = state_of(folder.path)
        if global_rank():  # of several tasks the first decides; by now it may be at work already
            state = "new"
        if state in ("failed", "pruned") and not self.retry and not config.overwrite:
            log.info("%s, by another launcher: %s", state, reason)
            return None
        if state == "running" and is_held(folder.path):
            log.info("%s works on %s: left to it", reason, folder.path)
            return None
        wanted = _gpus_wanted(config)
        outside = one_of_several()
        if this_process() != self.home and not outside and wanted and self.gpus == "auto":
            take_gpus(wanted)
        if has_processes(config) and not outside:
            return self._as_a_command(config, folder)
        module, function = self.target.split(":")
        getattr(importlib.import_module(module), function)(cfg)
        return None

    def _as_a_command(self, config: RunConfig, folder: RunFolder) -> Failure | None:
        """Run a job of several processes as a command of its own: where one of them dies, all are killed, the first too."""
        words = without_sweep(HydraConfig.get().overrides.task)
        command = [sys.executable, "-m", "kjcm", self.command, *words, *(["--debug"] if self.debug else [])]
        # one task of Slurm's is no sign of processes started by it
        own = {name: value for name, value in os.environ.items() if name not in ("SLURM_NTASKS", "SLURM_PROCID")}
        own[SWEEP] = Path(HydraConfig.get().sweep.dir).name
        before = read_failure(folder.path)
        said = "it ended before it came to its folder"
        out = None if this_process() == self.home else subprocess.PIPE  # its lines want a prefix there
        with (
            subprocess.Popen(
                command, env=own, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace"
            ) as process,
            handled(lambda number, _: process.send_signal(number) if number != SIGINT else None),  # Ctrl-C goes to all
        ):
            assert process.stderr is not None
            if process.stdout:
                threading.Thread(target=sys.stdout.writelines, args=(process.stdout,)).start()
            for line in process.stderr:
                sys.stderr.write(line)
                if line.startswith(f"kjcm {self.command}: "):
                    said = line.strip().partition(": ")[2]
            process.wait()
        code = process.returncode
        if code == 0:
            return None
        if code > 128:
            raise Interrupted(code - 128)
        failure = read_failure(folder.path)
        if failure is None or failure == before:
            failure = Failure("killed", f"killed by signal {-code}") if code < 0 else Failure("error", said, code)
        return failure


def this_process() -> str:
    """Return what tells this process from those of other machines too."""
    return f"{machine()} {os.getpid()}"


def has_processes(config: RunConfig) -> bool:
    """Tell whether a training starts processes of its own."""
    if not isinstance(config, TrainConfig):
        return False
    trainer = config.trainer
    return device_count(trainer.devices) not in (0, 1) or trainer.num_nodes > 1


def _gpus_wanted(config: RunConfig) -> int:
    """Return how many GPUs a job wants of any kind: 0 where it wants none, or has named them."""
    if not isinstance(config, TrainConfig) or config.trainer.accelerator == "cpu":
        return 0
    devices = str(config.trainer.devices)
    return int(devices) if devices.isdigit() else 0
