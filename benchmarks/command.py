"""The benchmarks' commands: `python -m benchmarks.NAME [hydra overrides]`, which kjcm's command line checks and runs."""

from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from kjcm import cli, schema
from kjcm.unread import Unread


@dataclass
class Train(schema.Train):
    """`python -m benchmarks.train`."""

    steps: int = MISSING
    warmup: int = MISSING
    alternatives: list[str] | None = MISSING
    profile: bool = MISSING
    repeats: int = MISSING
    out: str = MISSING


@dataclass
class Predict:
    """`python -m benchmarks.predict`."""

    run: str = MISSING
    input: str = MISSING
    rows: int | None = MISSING
    precisions: list[str] | None = MISSING
    compile: bool = MISSING
    batch_size: int | None = MISSING
    accelerator: str = MISSING
    repeats: int = MISSING
    out: str = MISSING
    overwrite: bool = MISSING


@dataclass
class Prepare:
    """`python -m benchmarks.prepare`."""

    data: schema.Data = MISSING
    augment: schema.Augment = MISSING
    classification: schema.ClassificationNode = MISSING
    tokenizer: schema.Tokenizer = MISSING
    model: schema.Model = MISSING
    preset: schema.Preset = MISSING
    repeats: int = MISSING
    out: str = MISSING
    overwrite: bool = MISSING


NODES = {"benchmarks.train": Train, "benchmarks.predict": Predict, "benchmarks.prepare": Prepare}
COMMANDS = {
    command.name: command
    for command in (
        cli.Command("benchmarks.train", "benchmarks.train:measure",
                    "time training next to Hugging Face's Trainer and a plain Lightning loop",
                    "python -m benchmarks.train out=out/bench/train", "python -m", (
                        Unread(("name", "run_dir", "evaluate", "sweep", "logger", "optim.schedule", "optim.warmup")),
                        Unread(("trainer.max_epochs", "trainer.patience", "trainer.save_every", "trainer.keep_checkpoints",
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
