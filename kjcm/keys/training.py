"""The keys of a training, except those of its model: optimiser, engine, trainer, loggers, seeds, sweep."""

from dataclasses import dataclass
from typing import Any

from kjcm.keys.key import key, seed_key


@dataclass
class ParamGroupsConfig:
    """The parameter groups of the optimiser ([extending.md](extending.md#optimiser))."""

    layer_decay: float = key(
        "Learning rate of a layer's weights as a factor of the rate of the layer above; 1: all alike.", above=0, most=1
    )
    decay_all: bool = key("`false`: biases and norms have no weight decay.")
    freeze_embeddings: bool = key("`true`: the embeddings keep their weights.")
    freeze_layers: int = key("Number of first layers that keep their weights.", least=0, most=1000)
    cache_frozen: bool = key(
        "`true`: the frozen embeddings and layers run once per text, without dropout; `engine` auto or packed, one process.",
        legacy=False,
    )
    head_factor: float = key("Learning rate of the head as a factor of `optim.lr`.", above=0, most=10**4, legacy=1.0)


@dataclass
class EngineConfig:
    """How the steps run. All engines learn from the same rows in the same order, with the same schedule and dropout rates.

    Sums are taken in another order and dropout draws other numbers, so weights differ no more than those of two seeds.
    """

    name: str = key("Name of the engine; the group sets it.", choices=("auto", "packed", "captured", "reference"))
    attention_dropout: str = key(
        "`none` leaves out the attention's dropout ([what that changes](performance.md#attention-dropout)).",
        choices=("exact", "none"),
    )
    compile: bool = key(
        "Compile a captured step with torch.compile; without a C compiler `auto` does not and `captured` stops.",
        identity="where",
    )
    block: int = key(
        "Steps of a Lightning call with `captured`; callbacks and loggers see one batch a block.",
        least=1, most=10**6, identity="where",
    )  # fmt: skip


@dataclass
class TrainerConfig:
    """The device and the length of the training. Sweeps, several GPUs and machines: [launchers.md](launchers.md)."""

    accelerator: str = key("Accelerator, as Lightning names it.", choices=("cpu", "gpu", "auto"), identity="where")
    devices: Any = key("Number of devices, a list of devices, or `auto`.", identity="where")
    num_nodes: int = key("Number of machines.", least=1, most=10**4, identity="where")
    strategy: str = key("Lightning's strategy: `auto`, or `ddp` for several processes.", identity="where")
    precision: str = key(
        "`auto`: bf16-mixed where the device computes in bfloat16, else 32-true.",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    max_epochs: int = key("Epochs (the paper: 8).", least=1, most=10**6)
    deterministic: bool = key("Use deterministic algorithms only.")
    num_workers: int = key("Processes that make batches.", least=0, most=1024, identity="where")
    save_every: float = key(
        "Seconds from one checkpoint to the next; 0: after every step, with `captured` after every block.",
        least=0, most=10**9, identity="where",
    )  # fmt: skip
    keep_checkpoints: bool = key(
        "Keep a finished run's checkpoints; each is three times the size of its model.", identity="where"
    )
    progress: bool = key("Show progress bars on a terminal.", identity="where")
    flags: dict[str, Any] = key("Further arguments of Lightning's Trainer, as `accumulate_grad_batches`.")


GROUP = "Group of runs; null: `sweep-TIME` for the jobs of a multirun, else the experiment's name."


@dataclass
class LogFilesConfig:
    """A logger without keys, whose files are in the run folder."""


@dataclass
class MlflowConfig:
    """MLflow."""

    tracking_uri: str | None = key(
        "Folder, or address of a server; null: as MLFLOW_TRACKING_URI says, else the folder `mlruns` in `runs`."
    )
    experiment: str = key("Experiment that gets the runs.")


@dataclass
class TrackioConfig:
    """Trackio."""

    project: str = key("Project that gets the runs.")
    group: str | None = key(GROUP)
    space_id: str | None = key("Space of Hugging Face that gets the runs; null: as TRACKIO_SPACE_ID says, else none.")


@dataclass
class WandbConfig:
    """Weights & Biases."""

    project: str = key("Project: 1 to 128 characters, none of `/ \\ # ? % :`.")
    entity: str | None = key("User or team; null: that of the API key.")
    group: str | None = key(GROUP)
    tags: list[str] = key("Tags besides experiment, data, level and model, of 1 to 64 characters each.")
    mode: str | None = key(
        "Null: as WANDB_MODE says, else online; always offline without an API key.",
        choices=("online", "offline", "disabled"),
    )
    wait: float = key("Most seconds that a run waits for W&B, and its end for the upload.", above=0, most=10**6)
    share_model: bool = key("Upload the model folder as an artifact.")
    share_text: bool = key(
        "`true`: upload answers among the errors, and a tokenizer trained on answers with the model."
    )


@dataclass
class PresetConfig:
    """The size of the built-in default."""

    scale: float = key("Size of the synthetic twin; `data.scale` takes it.")


@dataclass
class Seeds:
    """One seed a purpose; the split has its own, data.split_seed."""

    init: int = seed_key("Seed of the random weights.")
    batches: int = seed_key("Seed of the order of the training rows.")
    dropout: int = seed_key("Seed of dropout.")


@dataclass
class BaselineSeeds:
    """The seed of what is random in a baseline."""

    svm: int = seed_key("Seed of the order in which the SVM's solver takes the rows.")


@dataclass
class SweepConfig:
    """What -m does ([sweeps.md](sweeps.md))."""

    dry_run: bool = key("With `-m`: list the jobs and their states, and run none.")
    retry: str | None = key("With `-m`, `failed`: run failed and pruned jobs again.", choices=("failed",))
    gpus: str = key(
        "With `-m` in a launcher's processes, `auto`: each takes its own `trainer.devices` GPUs; `all`: each sees all GPUs.",
        choices=("auto", "all"),
    )
    sort: str | None = key(
        "With `-m`: metric or key that sorts the last table; null: validation F1, else the order of the jobs."
    )
    stop_after: int | None = key(
        "With `-m`: failed jobs after which no further job begins; null: all begin.", least=1, most=10**6
    )
    on_failure: str | None = key(
        "With `-m`: command or web address that gets each failed job as JSON ([sweeps.md](sweeps.md#hooks))."
    )
    on_end: str | None = key("With `-m`: command or web address that gets the last table as JSON, likewise.")
