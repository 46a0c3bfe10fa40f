"""The types of every config key; the values live in conf/*.yaml alone.

Hydra merges the YAML into these dataclasses, so that a misspelt key or a value of the wrong type fails at compose and
names itself. What a type cannot say is checked by `check` before anything is read.
"""

import copy
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kjcm.errors import ConfigError, first_line, some


@dataclass
class Columns:
    """Role -> column name in the files; null where there is no such column."""

    id: str | None = MISSING
    workplace: str | None = MISSING
    position: str | None = MISSING
    task: str | None = MISSING
    code: str | None = MISSING
    cluster: str | None = MISSING
    weight: str | None = MISSING
    manages: str | None = MISSING


@dataclass
class Data:
    """What every data source has."""

    source: str = MISSING
    columns: Columns = field(default_factory=Columns)
    level: int | None = MISSING
    cutoff: int = MISSING
    higher_cutoff: int = MISSING
    split_seed: int = MISSING
    train_share: float = MISSING
    train_fraction: float = MISSING
    validation: float = MISSING
    batch_size: int = MISSING
    drop_invalid: bool = MISSING
    wording: str = MISSING
    manager_words: list[str] = MISSING
    reviewed: str | None = MISSING


@dataclass
class Synthetic(Data):
    """The synthetic twin."""

    scale: float = MISSING
    twin_seed: int = MISSING
    train_wave: int | None = MISSING


@dataclass
class Kwcs(Data):
    """Waves 5 and 6 of the Korean Working Conditions Survey."""

    wave5: str | None = MISSING
    wave6: str | None = MISSING
    crosswalk: str | None = MISSING
    resolutions: str | None = MISSING
    train_wave: int | None = MISSING
    encoding: str | None = MISSING
    sheet: str | None = MISSING
    header_row: int | None = MISSING


@dataclass
class Table(Data):
    """Any table of texts and codes."""

    path: str | None = MISSING
    test_path: str | None = MISSING
    encoding: str | None = MISSING
    sheet: str | None = MISSING
    header_row: int | None = MISSING


@dataclass
class Augment:
    """Which of the classification's own texts join the training rows."""

    titles: bool = MISSING
    descriptions: bool = MISSING


@dataclass
class ClassificationNode:
    """Which classification the codes are of."""

    name: str = MISSING
    path: str | None = MISSING


@dataclass
class Tokenizer:
    """How a text becomes ids."""

    kind: str = MISSING
    path: str | None = MISSING
    vocab_size: int | None = MISSING
    max_unknown: float = MISSING


@dataclass
class Model:
    """The encoder and its head."""

    name: str = MISSING
    pretrained: str | None = MISSING
    shape: dict[str, Any] | None = MISSING
    pooling: str = MISSING
    prefix: str = MISSING
    max_length: int = MISSING
    lr: float = MISSING


@dataclass
class Optim:
    """The optimiser and its schedule."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    warmup: float = MISSING
    schedule: str = MISSING
    clip: float | None = MISSING


@dataclass
class EngineNode:
    """How the steps of a training are run."""

    name: str = MISSING
    attention_dropout: str = MISSING
    compile: bool = MISSING
    block: int = MISSING


@dataclass
class Trainer:
    """The device and the length of the training."""

    accelerator: str = MISSING
    devices: Any = MISSING
    num_nodes: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    max_epochs: int = MISSING
    patience: int | None = MISSING
    deterministic: bool = MISSING
    num_workers: int = MISSING
    save_every: float = MISSING
    keep_checkpoints: bool = MISSING
    progress: bool = MISSING


@dataclass
class Logger:
    """Where curves go."""

    kind: str = MISSING


@dataclass
class Wandb(Logger):
    """Weights & Biases."""

    project: str = MISSING
    entity: str | None = MISSING
    group: str | None = MISSING
    tags: list[str] = MISSING
    mode: str | None = MISSING
    wait: float = MISSING
    share_model: bool = MISSING
    share_text: bool = MISSING


@dataclass
class Preset:
    """How large the embedded default is."""

    scale: float = MISSING


@dataclass
class Seeds:
    """One seed a purpose; the split has its own, data.split_seed."""

    init: int = MISSING
    batches: int = MISSING
    dropout: int = MISSING


@dataclass
class Sweep:
    """What -m does."""

    dry_run: bool = MISSING
    retry: str | None = MISSING
    cards: str = MISSING
    sort: str | None = MISSING


@dataclass
class Prepare:
    """`kjcm prepare`."""

    data: Data = MISSING
    augment: Augment = MISSING
    classification: ClassificationNode = MISSING
    preset: Preset = MISSING
    name: str = MISSING
    out: str = MISSING
    overwrite: bool = MISSING


@dataclass
class Train:
    """`kjcm train`."""

    data: Data = MISSING
    augment: Augment = MISSING
    classification: ClassificationNode = MISSING
    tokenizer: Tokenizer = MISSING
    model: Model = MISSING
    optim: Optim = MISSING
    engine: EngineNode = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING
    preset: Preset = MISSING
    sweep: Sweep = MISSING
    seeds: Seeds = MISSING
    name: str = MISSING
    seed: int = MISSING
    evaluate: bool = MISSING
    runs: str = MISSING
    run_dir: str | None = MISSING
    cache: str = MISSING
    overwrite: bool = MISSING


@dataclass
class BaselineSeeds:
    """The seed of what is random in a baseline."""

    svm: int = MISSING


@dataclass
class Baseline:
    """`kjcm baseline`."""

    data: Data = MISSING
    augment: Augment = MISSING
    classification: ClassificationNode = MISSING
    preset: Preset = MISSING
    sweep: Sweep = MISSING
    seeds: BaselineSeeds = MISSING
    kind: str = MISSING
    name: str = MISSING
    seed: int = MISSING
    ngrams: list[int] = MISSING
    C: float = MISSING
    runs: str = MISSING
    run_dir: str | None = MISSING
    overwrite: bool = MISSING


@dataclass
class Evaluate:
    """`kjcm evaluate`."""

    run: str = MISSING
    data: Data | None = None
    preset: Preset = MISSING
    trainer: Trainer = MISSING
    batch_size: int = MISSING
    out: str | None = MISSING
    overwrite: bool = MISSING


@dataclass
class CodingColumns:
    """Role -> column of a file to code; '@run' stands for the run's own column, null for none."""

    workplace: str | None = MISSING
    position: str | None = MISSING
    task: str | None = MISSING
    manages: str | None = MISSING


@dataclass
class TriageRules:
    """What is done with a coded row."""

    threshold: float = MISSING
    confidence: float = MISSING
    alpha: float = MISSING
    k: int = MISSING
    back_off: list[int] = MISSING
    managers: str = MISSING
    calibrated: bool = MISSING


@dataclass
class TriageNode(TriageRules):
    """The same, with a target."""

    target_error: float | None = MISSING


@dataclass
class Triage:
    """`kjcm triage`."""

    run: str = MISSING
    targets: list[float] = MISSING
    triage: TriageRules = field(default_factory=TriageRules)
    out: str | None = MISSING
    overwrite: bool = MISSING


@dataclass
class Predict:
    """`kjcm predict`."""

    run: str = MISSING
    input: str = MISSING
    output: str = MISSING
    encoding: str | None = MISSING
    sheet: str | None = MISSING
    header_row: int | None = MISSING
    columns: CodingColumns = field(default_factory=CodingColumns)
    triage: TriageNode = field(default_factory=TriageNode)
    top_k: int = MISSING
    batch_size: int | None = MISSING
    chunk_rows: int = MISSING
    accelerator: str = MISSING
    precision: str = MISSING
    compile: bool = MISSING
    formulas: str = MISSING
    overwrite: bool = MISSING


@dataclass
class Review:
    """`kjcm review`."""

    run: str = MISSING
    input: str = MISSING
    db: str | None = MISSING
    export: str | None = MISSING
    decisions: list[str] = MISSING
    who: str | None = MISSING
    language: str = MISSING
    host: str = MISSING
    port: int = MISSING
    token: str | None = MISSING
    open_browser: bool = MISSING
    overwrite: bool = MISSING


@dataclass
class Export:
    """`kjcm export`."""

    run: str = MISSING
    format: str = MISSING
    out: str | None = MISSING
    input: str | None = MISSING
    rows: int = MISSING
    tolerance: float = MISSING
    agreement: float = MISSING
    narrow: bool | None = MISSING
    overwrite: bool = MISSING


@dataclass
class Reporting:
    """What `report` and `reproduce` have in common."""

    out: str = MISSING
    texts: bool = MISSING
    review: str | None = MISSING
    only: list[str] = MISSING
    replicates: int = MISSING
    bootstrap_seed: int = MISSING


@dataclass
class Report(Reporting):
    """`kjcm report`."""

    runs: str = MISSING
    like: str | None = MISSING
    overwrite: bool = MISSING


@dataclass
class Runs:
    """`kjcm runs`."""

    runs: str = MISSING
    where: Any = MISSING  # a mapping of keys unknown here; OmegaConf cannot merge one into an optional dict
    group: str | None = MISSING
    sort: str | None = MISSING
    columns: list[str] = MISSING
    out: str | None = MISSING
    overwrite: bool = MISSING


@dataclass
class Reproduce(Train, Reporting):
    """`kjcm reproduce`."""

    models: list[str] = MISSING
    repeats: int = MISSING


@dataclass
class Tune(Train):
    """`kjcm tune`."""

    space: dict[str, Any] = MISSING
    trials: int = MISSING
    hours: float | None = MISSING
    sampler: str = MISSING
    sampler_seed: int = MISSING
    startup: int = MISSING
    pruner: str = MISSING
    prune_after: int = MISSING
    prune_from: int = MISSING
    metric: str = MISSING
    direction: str = MISSING
    study: str | None = MISSING
    storage: str | None = MISSING


@dataclass
class BenchTrain(Train):
    """`kjcm bench train`."""

    steps: int = MISSING
    warmup: int = MISSING
    alternatives: list[str] | None = MISSING
    profile: bool = MISSING
    repeats: int = MISSING
    out: str = MISSING


@dataclass
class BenchPredict:
    """`kjcm bench predict`."""

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
class BenchPrepare:
    """`kjcm bench prepare`."""

    data: Data = MISSING
    augment: Augment = MISSING
    classification: ClassificationNode = MISSING
    tokenizer: Tokenizer = MISSING
    model: Model = MISSING
    preset: Preset = MISSING
    repeats: int = MISSING
    out: str = MISSING
    overwrite: bool = MISSING


@dataclass
class Doctor:
    """`kjcm doctor`."""

    tokenizer_path: str | None = MISSING
    hub: bool = MISSING


NODES: dict[str, dict[str, type]] = {
    "": {
        "prepare": Prepare,
        "train": Train,
        "baseline": Baseline,
        "evaluate": Evaluate,
        "predict": Predict,
        "triage": Triage,
        "review": Review,
        "export": Export,
        "doctor": Doctor,
        "report": Report,
        "runs": Runs,
        "reproduce": Reproduce,
        "tune": Tune,
        "bench_train": BenchTrain,
        "bench_predict": BenchPredict,
        "bench_prepare": BenchPrepare,
    },
    "data": {"synthetic": Synthetic, "kwcs": Kwcs, "table": Table},
    "augment": {"any": Augment},
    "classification": {"any": ClassificationNode},
    "tokenizer": {"any": Tokenizer},
    "model": {"any": Model},
    "optim": {"any": Optim},
    "engine": {"any": EngineNode},
    "trainer": {"any": Trainer},
    "logger": {"any": Logger, "wandb": Wandb},
    "preset": {"any": Preset},
}

# Keys that say where and how a run happens, not what it is: they stay out of a run's identity.
WHERE_AND_HOW = (
    "name", "runs", "run_dir", "cache", "overwrite", "logger", "preset", "sweep",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.num_workers",
    "trainer.progress", "trainer.save_every", "trainer.keep_checkpoints", "engine.compile", "engine.block",
    "data.higher_cutoff", "model.name", "model.lr", "seed",
)  # fmt: skip
# Keys that name input files or folders: their contents, not their places, make the identity.
INPUTS = (
    "data.path", "data.test_path", "data.wave5", "data.wave6", "data.crosswalk", "data.resolutions", "data.reviewed",
    "classification.path", "tokenizer.path", "model.pretrained",
)  # fmt: skip
# Keys that are younger than some runs: with these values they change nothing, and stay out of a run's identity.
YOUNGER: dict[str, Any] = {"data.encoding": None, "data.sheet": None, "data.header_row": None, "data.wording": "korean"}

CHOICES: dict[str, tuple[str | int, ...]] = {
    "kind": ("svm", "majority"),
    "data.source": ("synthetic", "kwcs", "table"),
    "data.train_wave": (5, 6),
    "data.wording": ("korean", "plain"),
    "classification.name": ("ksco7", "from_data"),
    "tokenizer.kind": ("trained", "kobert", "huggingface"),
    "model.pooling": ("cls", "mean"),
    "optim.name": ("adam", "adamw"),
    "optim.schedule": ("constant", "linear"),
    "engine.name": ("auto", "packed", "captured", "reference"),
    "engine.attention_dropout": ("exact", "none"),
    "logger.kind": ("csv", "wandb", "tensorboard", "none"),
    "logger.mode": ("online", "offline", "disabled"),
    "trainer.accelerator": ("cpu", "gpu", "auto"),
    "trainer.precision": ("auto", "32-true", "bf16-mixed", "16-mixed"),
    "accelerator": ("auto", "cpu", "gpu"),
    "precision": ("auto", "32-true", "bf16", "int8"),
    "sampler": ("tpe", "random", "grid"),
    "pruner": ("median", "hyperband", "asha", "none"),
    "metric": (
        "loss", "accuracy", "f1_weighted", "f1_macro", "precision_weighted", "precision_macro", "recall_weighted",
        "recall_macro", "top_2_accuracy", "top_3_accuracy", "top_4_accuracy", "top_5_accuracy",
    ),
    "direction": ("maximize", "minimize"),
    "sweep.retry": ("failed",),
    "sweep.cards": ("auto", "all"),
    "group": ("seed",),
    "language": ("ko", "en"),
    "format": ("onnx", "onnx-int8"),
    "triage.managers": ("none", "words", "column"),
    "formulas": ("own", "all", "keep"),
}  # fmt: skip
# key: (least, whether the least itself is allowed, most)
RANGES: dict[str, tuple[float, bool, float]] = {
    "data.cutoff": (0, True, 10**9),
    "data.level": (1, True, 10),
    "data.header_row": (1, True, 10**6),
    "header_row": (1, True, 10**6),
    "data.train_share": (0, False, 1),
    "data.train_fraction": (0, False, 1),
    "data.batch_size": (1, True, 10**6),
    "data.scale": (0, False, 1),
    "tokenizer.vocab_size": (100, True, 10**6),
    "tokenizer.max_unknown": (0, True, 1),
    "model.max_length": (4, True, 8192),
    "optim.lr": (0, False, 10),
    "optim.weight_decay": (0, True, 10),
    "optim.warmup": (0, True, 1),
    "optim.clip": (0, False, 10**9),
    "engine.block": (1, True, 10**6),
    "trainer.max_epochs": (1, True, 10**6),
    "logger.wait": (0, False, 10**6),
    "trainer.patience": (1, True, 10**6),
    "trainer.num_workers": (0, True, 1024),
    "trainer.save_every": (0, True, 10**9),
    "trainer.num_nodes": (1, True, 10**4),
    "seed": (0, True, 2**32 - 1),
    "seeds.init": (0, True, 2**32 - 1),
    "seeds.batches": (0, True, 2**32 - 1),
    "seeds.dropout": (0, True, 2**32 - 1),
    "seeds.svm": (0, True, 2**32 - 1),
    "C": (0, False, 10**9),
    "data.twin_seed": (0, True, 2**32 - 1),
    "top_k": (1, True, 10),
    "batch_size": (1, True, 10**6),
    "chunk_rows": (1, True, 10**8),
    "replicates": (0, True, 10**6),
    "bootstrap_seed": (0, True, 2**32 - 1),
    "trials": (1, True, 10**6),
    "hours": (0, False, 10**5),
    "sampler_seed": (0, True, 2**32 - 1),
    "startup": (0, True, 10**6),
    "prune_after": (0, True, 10**6),
    "prune_from": (1, True, 10**6),
    "repeats": (1, True, 1000),
    "steps": (1, True, 10**6),
    "warmup": (1, True, 10**6),
    "rows": (1, True, 10**9),
    "port": (1, True, 65535),
    "tolerance": (0, False, 10),
    "agreement": (0, True, 1),
    "triage.target_error": (0, False, 0.99),
    "triage.threshold": (0, True, 1),
    "triage.confidence": (0.5, True, 0.9999),
    "triage.alpha": (0, False, 0.99),
    "triage.k": (1, True, 20),
}


def register() -> None:
    """Make the schemas (as `schema/...`) and the resolver known to Hydra."""
    store = ConfigStore.instance()
    for group, nodes in NODES.items():
        for name, node in nodes.items():
            store.store(name=name, node=node, group=f"schema/{group}".rstrip("/"), provider="kjcm")
    OmegaConf.register_new_resolver("scaled_cutoff", scaled_cutoff, replace=True)
    OmegaConf.register_new_resolver("times", lambda factor, value: factor * value, replace=True)


def quoted(text: str) -> str:
    """Return text as the value of an override, whatever its characters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def word_key(word: str) -> str:
    """Return the key that a word of a command line sets."""
    return word.lstrip("+~").partition("=")[0]


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own node."""
    own = copy.deepcopy(cfg)  # a masked copy would lose its schema
    with open_dict(own):
        del own["hydra"]
    return own


def scaled_cutoff(cutoff: int, scale: float, least: int = 11) -> int:
    """Return the cutoff that removes at `scale` about the groups that `cutoff` removes at scale 1.

    The twin's groups shrink to no less than 11 rows, so a cutoff for them is no less than that.
    """
    return max(least, round(cutoff * scale))


def check_values(config: dict[str, Any]) -> None:
    """Check plain values, as those of a recorded config, as `check` does.

    Raises:
        ConfigError: a value is out of its range, or a text holds an interpolation that cannot be resolved.
    """
    try:
        check(OmegaConf.create(config))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None


def require_known(cfg: DictConfig, lead: str = "", beside: str = "") -> None:
    """Compare a composed config with its schema.

    Nodes of a type that is no dataclass (`model.shape`, `space`, `where`) may hold any key.

    Args:
        cfg: a composed config, or one of its nodes.
        lead: the node's key with a dot behind it.
        beside: a key that is known although the schema does not have it.

    Raises:
        ConfigError: names a key that the schema does not have, and keys like it.
    """
    keys = {**dict(_keys(cfg, lead)), beside: True}
    if unknown := [key for key, known in keys.items() if not known]:
        raise ConfigError(no_such_key(unknown[0], [key for key, known in keys.items() if known]))


def known_keys(cfg: DictConfig) -> list[str]:
    """Return the dotted keys of a composed config that its schema has."""
    return [key for key, known in _keys(cfg, "") if known]


def _keys(node: DictConfig, lead: str) -> Iterator[tuple[str, bool]]:
    """Yield every dotted key of a config's typed nodes, and whether the schema has the key."""
    kind = OmegaConf.get_type(node)
    if kind is None or not is_dataclass(kind):
        return
    known = {one.name for one in fields(kind)}
    for name in dict.fromkeys((*node, *known)):  # ~KEY may have removed one
        key = f"{lead}{name!s}"
        yield key, name in known
        child = node._get_node(name, validate_access=False)
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing() or child._is_interpolation()):
            yield from _keys(child, f"{key}.")


def no_such_key(key: str, known: Collection[str]) -> str:
    """Return the message for a key that a command does not have."""
    group, _, name = key.partition(".")
    nodes = NODES.get(group, {}) if group else {}
    if of := [
        choice for choice, node in nodes.items() if choice != "any" and name in {one.name for one in fields(node)}
    ]:
        return f"there is no key {key} here: add {' or '.join(f'{group}={choice}' for choice in of)}, which has it."
    near = get_close_matches(key, known, n=3)
    return f"there is no key {key}. {f'Near it are {some(near)}. ' if near else ''}--help lists all."


def require_resolvable(cfg: DictConfig) -> None:
    """Raise ConfigError if an interpolation has no value, or one of another type than its key's."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        key = getattr(error, "full_key", None)
        why = "it refers to itself" if isinstance(error, RecursionError) else first_line(error)
        raise ConfigError(f"{f'{key}: ' if key else ''}{why}. Give a value, or a key that is there.") from None


def _require_plain_lists(cfg: DictConfig) -> None:
    """Raise ConfigError if a list of texts or numbers has a list or mapping in it: OmegaConf takes any."""
    for key in known_keys(cfg):
        value = OmegaConf.select(cfg, key)
        typed = isinstance(value, ListConfig) and value._metadata.element_type in (str, int, float)
        if typed and any(isinstance(part, ListConfig | DictConfig) for part in value):
            kind = "texts" if value._metadata.element_type is str else "numbers"
            raise ConfigError(f"{key}={value}: give one list of {kind}, without lists or mappings in it.")


def _require_names_for_wandb(node: DictConfig, name: str) -> None:
    """Raise ConfigError if W&B would refuse a name at the first step of a training, or its server at the upload."""
    entity, group = node.entity, node.group
    if not 0 < len(node.project.strip()) <= 128 or set("/\\#?%:") & set(node.project):
        raise ConfigError(f"logger.project={node.project}: use 1 to 128 characters, none of them / \\ # ? % or :.")
    if entity is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", entity):
        raise ConfigError(f"logger.entity={entity}: use the name of a W&B user or team: letters, digits, - and _.")
    if group is not None and not 0 < len(group.strip()) <= 128:
        raise ConfigError(f"logger.group={group}: use 1 to 128 characters, or null.")
    if wrong := [tag for tag in node.tags if tag is None or not 0 < len(tag.strip()) <= 64]:
        raise ConfigError(f"logger.tags={some(wrong)}: a tag has 1 to 64 characters. Shorten it, or leave it out.")
    if len(name) > 115:  # W&B's name of the run has a hyphen and 12 characters more
        raise ConfigError(f"name={name[:40]}...: with logger=wandb it has at most 115 characters.")


def _require_home(key: str, value: str | None) -> None:
    """Raise ConfigError if a path begins with ~NAME and there is no such user."""
    try:
        Path(value or "").expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}={value}: there is no user of this name. Write ./~NAME for a file so named.") from None


def check(cfg: DictConfig) -> None:
    """Check what a type cannot: that every key is known, choices, ranges, and what needs what.

    Raises:
        ConfigError: a key is unknown, a value is out of its range, or a combination cannot work.
    """
    require_known(cfg)
    require_resolvable(cfg)
    _require_plain_lists(cfg)
    missing = sorted(key for key in known_keys(cfg) if OmegaConf.select(cfg, key, default=MISSING) == MISSING)
    if missing:
        raise ConfigError(f"Give {', '.join(f'{key}=...' for key in missing)}.")
    for key, choices in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in choices:
            raise ConfigError(f"{key}={value}: choose one of {', '.join(map(str, choices))}.")
    for key, (least, included, most) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and not (least <= value <= most and (included or value > least)):
            raise ConfigError(f"{key}={value}: use {'at least' if included else 'more than'} {least}, at most {most}.")
    name = OmegaConf.select(cfg, "name")
    if name is not None and (not name.strip() or name.startswith(".") or {"/", "\\"} & set(name)):
        raise ConfigError(
            f"name={name}: it names a folder in `runs`; use a text without / and \\ that begins with no dot."
        )
    validation = OmegaConf.select(cfg, "data.validation")
    if validation is not None and not 0 <= validation < 1:
        raise ConfigError(f"data.validation={validation}: use a share of at least 0 and below 1.")
    if OmegaConf.select(cfg, "trainer.patience") is not None and validation == 0:
        raise ConfigError(
            f"trainer.patience={cfg.trainer.patience} (early stopping) chooses by validation rows, and "
            "data.validation=0 holds none back. Set data.validation=0.1, or trainer.patience=null."
        )
    for key in (*INPUTS, "run", "input", "out", "output", "review", "db", "export", "storage", "tokenizer_path"):
        _require_home(key, OmegaConf.select(cfg, key))
    devices = OmegaConf.select(cfg, "trainer.devices")
    parts = devices if isinstance(devices, ListConfig) else [devices]
    if devices is not None and not all(type(part) in ((int,) if parts is devices else (int, str)) for part in parts):
        raise ConfigError(f"trainer.devices={devices}: give a number, a list as [0,1] or '0,1', or auto.")
    engine = OmegaConf.select(cfg, "engine")
    if engine is not None and engine.name == "reference" and engine.attention_dropout == "none":
        raise ConfigError("engine.attention_dropout=none is of packed batches: use engine=auto, or leave it exact.")
    levels = list(OmegaConf.select(cfg, "triage.back_off") or [])
    if levels != sorted(set(levels), reverse=True) or any(level < 1 for level in levels):
        raise ConfigError(f"triage.back_off={levels}: give levels above the codes', the finest first, as [2,1], or [].")
    targets = OmegaConf.select(cfg, "targets")
    if targets is not None and not (targets and all(0 < target <= 0.99 for target in targets)):
        raise ConfigError(f"targets={list(targets)}: give error rates of more than 0, at most 0.99, as [0.05,0.1].")
    ngrams = OmegaConf.select(cfg, "ngrams")
    if ngrams is not None and not (len(ngrams) == 2 and 1 <= ngrams[0] <= ngrams[1]):
        raise ConfigError(f"ngrams={ngrams}: give the fewest and the most characters of an n-gram, as ngrams=[1,4].")
    if OmegaConf.select(cfg, "logger.kind") == "wandb":
        _require_names_for_wandb(cfg.logger, cfg.name)
    if OmegaConf.select(cfg, "tokenizer.kind") == "trained" and OmegaConf.select(cfg, "tokenizer.path"):
        raise ConfigError("tokenizer=trained takes no tokenizer.path: it is trained on the training rows.")
