"""The benchmarks' commands: `python -m benchmarks.NAME [hydra overrides]`, which kjcm's command line checks and runs."""

from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from kjcm import cli
from kjcm.config import commands
from kjcm.config.key import MISSING, key
from kjcm.config.survey import AugmentConfig, ClassificationConfig, DataConfig
from kjcm.config.training import ModelConfig, PresetConfig, TokenizerConfig
from kjcm.config.unread import Unread


@dataclass
class Train(commands.TrainConfig):
    """`python -m benchmarks.train`."""

    steps: int = key("Timed steps of each measurement; whole blocks of `engine.block`.", least=1, most=10**6)
    warmup: int = key("Steps before the timed ones; whole blocks likewise.", least=1, most=10**6)
    alternatives: list[str] | None = key(
        "Of `trainer`, `trainer_bf16`, `trainer_compiled`, `lightning`; null: all, on a CPU without `trainer_compiled`."
    )
    profile: bool = key("`true`: then profile some of kjcm's steps with torch.profiler.")
    repeats: int = key("Measurements of each side.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)


@dataclass
class Predict:
    """`python -m benchmarks.predict`."""

    run: str = key("Run folder; the run must be finished (DONE).", path=True)
    input: str = key("File to code, of a kind that `kjcm predict` reads.", path=True)
    rows: int | None = key(
        "Rows of it, from its beginning, those without text left out; null: all.", least=1, most=10**9
    )
    precisions: list[str] | None = key(
        "Of `32-true` (always measured), `bf16`, `int8`; null: all, on a GPU without `int8`."
    )
    compile: bool = key("`true`: compile all but int8 with torch.compile.")
    batch_size: int | None = key("kjcm's, as for `kjcm predict`; the pipeline's is 64.", least=1, most=10**6)
    accelerator: str = key("Accelerator.", choices=("auto", "cpu", "gpu"))
    repeats: int = key("Measurements of each side.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the benchmark in `out`.")


@dataclass
class Prepare:
    """`python -m benchmarks.prepare`."""

    data: DataConfig = MISSING
    augment: AugmentConfig = MISSING
    classification: ClassificationConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    model: ModelConfig = MISSING
    preset: PresetConfig = MISSING
    repeats: int = key("Measurements with each cache.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the benchmark in `out`.")


NODES = {"benchmarks.train": Train, "benchmarks.predict": Predict, "benchmarks.prepare": Prepare}
COMMANDS = {
    command.name: command
    for command in (
        cli.Command("benchmarks.train", "benchmarks.train:measure",
                    "time training next to Hugging Face's Trainer and a plain Lightning loop",
                    "python -m benchmarks.train out=out/bench/train", "python -m", (
                        Unread(("name", "run_dir", "evaluate", "sweep", "logger", "schedule", "callbacks", "metrics")),
                        Unread(("trainer.max_epochs", "trainer.save_every", "trainer.keep_checkpoints",
                                "trainer.progress")),
                    )),
        cli.Command("benchmarks.predict", "benchmarks.predict:measure",
                    "time coding next to Hugging Face's pipeline",
                    "python -m benchmarks.predict run=RUN_DIR input=FILE", "python -m"),
        cli.Command("benchmarks.prepare", "benchmarks.prepare:measure",
                    "time survey file to tokens, with an empty cache and with a filled one",
                    "python -m benchmarks.prepare data.scale=1", "python -m", (
                        Unread(("data.batch_size", "data.manager_words", "model.name", "model.shape", "model.pooling",
                                "model.lr")),
                    )),
    )
}  # fmt: skip


def register() -> None:
    """Make the benchmarks' configs and their types known to Hydra."""
    store, folder = ConfigStore.instance(), Path(__file__).parent / "conf"
    for name, node in NODES.items():
        store.store(name=name, node=node, group="schema", provider="benchmarks")
        store.store(name=name, node=OmegaConf.load(folder / f"{name.removeprefix('benchmarks.')}.yaml"))


def main(name: str, argv: list[str] | None = None) -> None:
    """Run a benchmark, one of COMMANDS, and exit as kjcm's command line does."""
    register()
    cli.main(argv, COMMANDS[name])
