"""The benchmarks' commands `python -m benchmarks.NAME [KEY=VALUE ...]`; kjcm's command line checks and runs them."""

from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from kjcm import cli
from kjcm.commands import Command
from kjcm.keys import composition
from kjcm.keys.commands import train
from kjcm.keys.key import MISSING, key, seed_key
from kjcm.keys.models import EncoderConfig, TokenizerConfig
from kjcm.keys.overrides import config_folder
from kjcm.keys.reference import command_section
from kjcm.keys.survey import ClassificationConfig
from kjcm.keys.training import PresetConfig
from kjcm.keys.unread import Unread

ALTERNATIVES = ("trainer", "trainer_bf16", "trainer_compiled", "lightning")
RULES = ("random", "order", "steps", "margin")
PRECISIONS = ("32-true", "bf16", "int8")  # the first is the reference of every agreement


@dataclass
class TrainConfig(train.TrainConfig):
    """Time kjcm's training, Hugging Face's Trainer and a plain Lightning loop.

    The learning rate is constant and nothing is logged. Trainer needs `pip install accelerate`.
    """

    steps: int = key(
        "Timed steps of each measurement, rounded up to whole blocks of `engine.block`.", least=1, most=10**6
    )
    warmup: int = key("Untimed steps before them, rounded up likewise.", least=1, most=10**6)
    alternatives: list[str] | None = key(
        "List of sides to compare with kjcm's; null: all, on a CPU without `trainer_compiled`.", choices=ALTERNATIVES
    )
    profile: bool = key("`true`: also profile some of kjcm's steps and compute the floor of a step.")
    repeats: int = key("Measurements of each side.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)


@dataclass
class PredictConfig:
    """Time a finished run's coding and Hugging Face's pipeline; the run must have `model.pooling=cls`."""

    run: str = key("Folder of a finished run.", path=True)
    input: str = key("File to code, as for `kjcm predict`, with the columns of the run's data.", path=True)
    rows: int | None = key("First rows to code, without those that have no text; null: all.", least=1, most=10**9)
    precisions: list[str] | None = key(
        "List of kjcm's precisions, plus `32-true`; null: all, on a GPU without `int8`.", choices=PRECISIONS
    )
    compile: bool = key("`true`: compile all but int8 with torch.compile.")
    batch_size: int | None = key("kjcm's, as for `kjcm predict`; the pipeline's is 64.", least=1, most=10**6)
    accelerator: str = key("Device.", choices=("auto", "cpu", "gpu"))
    repeats: int = key("Measurements of each side.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the benchmark in `out`.")


@dataclass
class PrepareConfig(train.SurveyConfig):
    """Time the way from survey file to tokens, with an empty cache and with a filled one."""

    tokenizer: TokenizerConfig = MISSING
    model: EncoderConfig = MISSING
    preset: PresetConfig = MISSING
    repeats: int = key("Measurements with each cache.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the benchmark in `out`.")


@dataclass
class ServeConfig:
    """Time `kjcm serve` under many clients, with and without batching, and one request at a time."""

    run: str = key("Folder of a finished run.", path=True)
    input: str = key("File whose rows are sent, with the columns of the run's data.", path=True)
    requests: int = key("Requests of a measurement, each with one row.", least=1, most=10**6)
    clients: int = key("Clients that send requests at the same time.", least=2, most=1000)
    batch_rows: int = key("`batching.rows` of the side with batching.", least=1, most=10**6)
    wait_ms: float = key("`batching.wait_ms` of the side with batching.", least=0, most=10**4)
    accelerator: str = key("Device.", choices=("auto", "cpu", "gpu"))
    precision: str = key("Precision, as for `kjcm serve`.", choices=("auto", *PRECISIONS))
    repeats: int = key("Measurements of each side.", least=1, most=1000)
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the benchmark in `out`.")


@dataclass
class SearchConfig:
    """Measure how often a search finds the right group, and time it.

    Half of the titles in `classification.index` are indexed; both halves are searched. Without an index only the time is
    measured, on titles made of the classification's words. It prints its figures and writes no file.
    """

    classification: ClassificationConfig = MISSING
    run: str | None = key("Finished run whose codes come last; null: none.", path=True)
    level: int = key("Digits of the groups.", least=1, most=10)
    splits: int = key("Random halves of the index.", least=1, most=1000)
    queries: int | None = key("Titles of each half to search; null: all.", least=1, most=10**9)
    entries: int = key("Titles to make for the timing.", least=1, most=10**6)
    repeats: int = key("Timings of each query; their median counts.", least=1, most=1000)
    seed: int = seed_key("Seed of the splits and of the titles; further splits have the next seeds.")


@dataclass
class ReviewConfig:
    """Let a scripted coder work at the page of `kjcm review`, and kill the server in the middle.

    The coder knows each row's code: it presses the code's digit, or searches for the code. The command prints keys and
    times for a row, and the page's memory. It fails if a decision is lost, and writes no file.
    """

    run: str = key("Finished run that coded the file.", path=True)
    input: str = key("Coded file with the right codes.", path=True)
    code: str = key("Column of the right codes.")
    rows: int = key("Rows to decide.", least=2, most=10**6)
    order: str = key("Order of the rows.", choices=("file", "similar", "uncertain", "group"))
    browser: str | None = key("Program of Chromium; null: `chromium` on the PATH.")


@dataclass
class CurveConfig:
    """Measure what the first reviewed rows teach a model that was trained on titles, by the order of review.

    Random rows are the test rows; their positions are removed from the index. It prints its figures and writes no file.
    """

    classification: ClassificationConfig = MISSING
    input: str = key("Coded rows, with the columns workplace, position and task.", path=True)
    code: str = key("Column of the codes.")
    test_rows: int = key("Random rows to test on.", least=1, most=10**9)
    sizes: list[int] = key("Ascending numbers of reviewed rows.", least=1, most=5000)
    rules: list[str] = key(
        "`random`; `order`: `kjcm order`; `steps`: the same, again after each size; `margin`: the most uncertain first.",
        choices=RULES,
    )
    splits: int = key("Random sets of test rows.", least=1, most=1000)
    seed: int = seed_key("Seed of the first split and of its random rows; further splits have the next seeds.")


NODES = {
    "benchmarks.train": TrainConfig, "benchmarks.predict": PredictConfig, "benchmarks.serve": ServeConfig,
    "benchmarks.prepare": PrepareConfig, "benchmarks.search": SearchConfig,
    "benchmarks.review": ReviewConfig,
    "benchmarks.curve": CurveConfig,
}  # fmt: skip
COMMANDS = {
    command.name: command
    for command in (
        Command("benchmarks.train", "benchmarks.train:measure",
                    "time training next to Hugging Face's Trainer and a plain Lightning loop",
                    "python -m benchmarks.train out=out/bench/train", "python -m", (
                        Unread(("name", "run_dir", "evaluate", "svm_check", "sweep", "logger", "schedule", "callbacks",
                                "metrics")),
                        Unread(("trainer.max_epochs", "trainer.save_every", "trainer.keep_checkpoints",
                                "trainer.progress")),
                    )),
        Command("benchmarks.predict", "benchmarks.predict:measure",
                    "time coding next to Hugging Face's pipeline",
                    "python -m benchmarks.predict run=RUN_DIR input=FILE", "python -m"),
        Command("benchmarks.serve", "benchmarks.serve:measure",
                    "time the service under many clients next to one request at a time",
                    "python -m benchmarks.serve run=RUN_DIR input=FILE", "python -m"),
        Command("benchmarks.prepare", "benchmarks.prepare:measure",
                    "time survey file to tokens, with an empty cache and with a filled one",
                    "python -m benchmarks.prepare data.scale=1", "python -m", (
                        Unread(("data.batch_size", "data.manager_words", "model.name", "model.shape", "model.pooling",
                                "model.lr")),
                    )),
        Command("benchmarks.search", "benchmarks.search:measure",
                    "how often a search finds the right group, and how long it takes",
                    "python -m benchmarks.search classification.index=FILE", "python -m"),
        Command("benchmarks.review", "benchmarks.review:measure",
                    "a scripted coder at the page of kjcm review, whose server is killed in the middle",
                    "python -m benchmarks.review run=RUN_DIR input=CODED_FILE", "python -m"),
        Command("benchmarks.curve", "benchmarks.curve:measure",
                    "what the first reviewed rows teach a model of titles, by the order of review",
                    "python -m benchmarks.curve input=FILE classification.index=FILE", "python -m"),
    )
}  # fmt: skip


def register() -> None:
    """Make the benchmarks' configs and their types known to Hydra."""
    store, folder = ConfigStore.instance(), Path(__file__).parent / "conf"
    for name, node in NODES.items():
        store.store(name=name, node=node, group="schema", provider="benchmarks")
        store.store(name=name, node=OmegaConf.load(folder / f"{name.removeprefix('benchmarks.')}.yaml"))


def reference() -> str:
    """Return the reference of the benchmarks' keys, which docs/performance.md contains."""
    composition.register()
    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return "\n".join(command_section("python -m", name, node) for name, node in NODES.items())


def main(name: str, argv: list[str] | None = None) -> None:
    """Run a benchmark, one of COMMANDS, and exit as kjcm's command line does."""
    register()
    cli.main(argv, COMMANDS[name])
