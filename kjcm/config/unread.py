"""Keys that are in a command's config, for its groups or its experiments have them, and that the command does not read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from kjcm.config.overrides import word_key
from kjcm.errors import ConfigError, some


def _always(cfg: DictConfig) -> bool:
    return True


@dataclass(frozen=True)
class Unread:
    """Keys, or nodes of keys, that a command does not read.

    Attributes:
        keys: the keys.
        when: tells for a composed config whether they go unread.
        why: the end of the sentence that says so.
    """

    keys: tuple[str, ...]
    when: Callable[[DictConfig], bool] = _always
    why: str = ""


def _is(key: str, *values: object) -> Callable[[DictConfig], bool]:
    return lambda cfg: OmegaConf.select(cfg, key) in values


def _is_not(key: str, *values: object) -> Callable[[DictConfig], bool]:
    return lambda cfg: OmegaConf.select(cfg, key) not in values


def _scale_is_given(cfg: DictConfig) -> bool:
    data = OmegaConf.to_container(cfg.data, resolve=False) if cfg.data is not None else {}
    return "preset.scale" not in str(dict(data).get("scale"))  # type: ignore[arg-type]


def _has_given_test(cfg: DictConfig) -> bool:
    return any(OmegaConf.select(cfg, key) is not None for key in ("data.test_path", "data.train_wave"))


OF_ANY = (
    Unread(("preset.scale",), _scale_is_given, ": it counts through data.scale of data=synthetic"),
    Unread(("data.train_share",), _has_given_test, " where data.test_path or data.train_wave names the test rows"),
    Unread(("engine.block", "engine.compile"), _is("engine.name", "packed", "reference"), " without engine=captured"),
    Unread(("tokenizer.vocab_size",), _is_not("tokenizer.kind", "trained", None), " without tokenizer=trained"),
    Unread(("model.shape",), _is_not("model.pretrained", None), ": model.pretrained has a shape of its own"),
)
OF_THE_PAGE = ("who", "language", "host", "port", "token", "open_browser", "decisions")
WITH_SWEEPS = ("sweep.dry_run", "sweep.gpus", "sweep.sort")
OF_A_COMMAND: dict[str, tuple[Unread, ...]] = {
    "prepare": (Unread(("name", "data.batch_size", "data.manager_words", "data.reviewed")),),
    "baseline": (
        Unread(("data.batch_size", "data.manager_words")),
        Unread(("ngrams", "C", "seeds"), _is("kind", "majority"), " with kind=majority"),
    ),
    "evaluate": (
        Unread(("data.level",), why=": the level is the run's"),
        Unread(("data.batch_size", "data.manager_words", "data.reviewed", "data.train_fraction", "data.validation")),
        Unread(tuple(f"trainer.{name}" for name in ("max_epochs", "num_workers", "save_every", "keep_checkpoints", "flags"))),
    ),
    "predict": (
        Unread(("columns.manages",), _is_not("triage.managers", "column"), " without triage.managers=column"),
        Unread(("triage.threshold",), _is_not("triage.target_error", None), " where triage.target_error sets the threshold"),
    ),
    "review": (
        Unread(OF_THE_PAGE, _is_not("export", None), " with export=FILE"),
        Unread(("overwrite",), _is("export", None), " without export=FILE"),
    ),
    "export": (
        Unread(("tolerance",), _is_not("format", "onnx"), " without format=onnx"),
        Unread(("agreement", "narrow"), _is_not("format", "onnx-int8"), " without format=onnx-int8"),
    ),
    "reproduce": (Unread(("sweep",)),),
    "tune": (
        Unread(WITH_SWEEPS),
        Unread(("startup",), _is_not("sampler", "tpe"), " without sampler=tpe"),
        Unread(("prune_after",), _is_not("pruner", "median"), " without pruner=median"),
        Unread(("prune_from",), _is("pruner", "none"), " with pruner=none"),
    ),
}  # fmt: skip


def require_read(command: str, cfg: DictConfig, overrides: Sequence[str], own: Sequence[Unread] = ()) -> None:
    """Raise ConfigError if an override sets a key that the command does not read.

    What a group or an experiment file sets is no override: the file serves several commands.

    Args:
        command: its name.
        cfg: its composed config.
        overrides: what the command line sets.
        own: keys that a command outside kjcm does not read.

    Raises:
        ConfigError: names the override and why its key goes unread.
    """
    for unread in (*OF_A_COMMAND.get(command, ()), *own, *OF_ANY):
        keys = unread.keys
        found = [
            override
            for override in overrides
            if any(f"{own}.".startswith(f"{key}.") for own in _set_by(override) for key in keys)
        ]
        if found and unread.when(cfg):
            raise ConfigError(f"{some(found)}: {command} does not read this key{unread.why}. Remove it.")


def _set_by(override: str) -> Iterator[str]:
    """Yield the keys to which an override gives a value, those within a mapping too; null takes a value away."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, value = word_key(override), OverridesParser.create().parse_override(override).value()
    waiting = [(key, value)]
    for own, node in waiting:
        if isinstance(node, Mapping):
            waiting += [(f"{own}.{name}", part) for name, part in node.items()]
        elif node is not None:
            yield own


def is_read(command: str, key: str) -> bool:
    """Return whether a command reads a key whatever the rest of its config."""
    always = (unread for unread in OF_A_COMMAND.get(command, ()) if unread.when is _always)
    return not any(f"{key}.".startswith(f"{own}.") for unread in always for own in unread.keys)
