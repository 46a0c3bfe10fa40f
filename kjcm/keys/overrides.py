"""Make the overrides that people type readable for Hydra, and compose a command's config from them."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kjcm.errors import ConfigError, some
from kjcm.keys.commands.index import LOGGERS
from kjcm.keys.composition import MOVED, known_keys, no_such_key
from kjcm.keys.identity import INPUTS, PATHS
from kjcm.shell import quote

NO_SUCH_CHOICE = "{}: a group takes one of its choices (--help lists them). For its default leave it out."
PART = re.compile(r"[^\s\[\]{}(),:]+(?: +[^\s\[\]{}(),:]+)*")  # what stands between a value's brackets and commas
# nodes that take keys which no config file has: arguments of a target, of the Trainer, of an encoder's configuration
OPEN = ("loss.", "optim.", "schedule.", "callbacks.", "metrics.", "trainer.flags.", "model.shape.")
VIEW = re.compile(r"\+*model\.views\.([a-z_][\w-]*)=(\{.*\})", re.I | re.A)
UNQUOTED, NO_TEXTS = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*"), ("null", "true", "false", "nan", "inf")  # to Hydra
FROM = re.compile(r"^(\+*)from=")
FILE_NAME = re.compile(r"[^'\"{}]+\.(csv|tsv|txt|xlsx|parquet|z?sav|dta|sqlite)", re.I)


def quoted(text: str) -> str:
    """Return text as the value of an override, whatever its characters."""
    # Hydra takes backslashes for themselves, except before a quote
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def override(key: str, value: Any) -> str:
    """Return the override that sets a key.

    Raises:
        ConfigError: the value cannot be written as an override.
    """
    try:
        return f"{key}={literal(value)}"
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def literal(value: Any) -> str:
    """Return a text, path, number, truth value, None, or list of such, in the syntax of an override.

    Raises:
        ConfigError: the value has another type.
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()  # NumPy's number
    if isinstance(value, PurePath):
        value = str(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return value if UNQUOTED.fullmatch(value) and value.lower() not in NO_TEXTS else quoted(value)
    if not isinstance(value, int | float):
        raise ConfigError(f"{type(value).__name__}: give a text, a number, true, false, None, or a list of such.")
    return repr(value)


def word_key(word: str) -> str:
    """Return the key that an override sets."""
    return word.lstrip("+~").partition("=")[0]


def config_folder() -> Path:
    """Return the folder of configs: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def for_hydra(config: str, arguments: Sequence[str], *, swept: bool) -> list[str]:
    """Return a command's arguments as Hydra takes them: overrides with the quotes that they need, then flags.

    Args:
        config: the command's config.
        arguments: the words after the command.
        swept: whether they make a multirun, whose commas and brackets are the sweep's.

    Raises:
        ConfigError: a word is neither an override nor an option.
    """
    if config == "recode":  # a field of a dataclass cannot be named `from`
        arguments = [FROM.sub(r"\1from_=", word) for word in arguments]
    _require_form(config, arguments)
    words = [word if is_flag(word) else _readable(opened(word, config), swept=swept) for word in arguments]
    return sorted(words, key=is_flag)  # argparse wants the overrides together


def with_list(key: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with those that are neither overrides nor options as one override, a list: `KEY=[...]`."""
    own, others = _plain_words(arguments)
    return [*([override(key, own)] if own else []), *others]


def with_first(key: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with the first that is neither an override nor an option as an override: `KEY=...`."""
    own, others = _plain_words(arguments)
    return [*(override(key, word) for word in own[:1]), *own[1:], *others]


def with_text(key: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with all that are neither overrides nor options as one text: `KEY=...`."""
    own, others = _plain_words(arguments)
    return [*([override(key, " ".join(own))] if own else []), *others]


def _plain_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are neither overrides nor options, and the others."""
    parser = get_args_parser()
    takes_value = {option for one in parser._actions if one.nargs is None for option in one.option_strings}
    before = ["", *arguments][: len(arguments)]
    pairs = zip(arguments, before, strict=True)
    own = [word for word, last in pairs if is_flag(word) and not word.startswith("-") and last not in takes_value]
    return own, [word for word in arguments if word not in own]


def words_of_shown(words: Sequence[str]) -> list[str] | None:
    """Return the words that compose the config which --cfg prints, without --cfg; None where there is no --cfg."""
    given = get_args_parser().parse_args(list(words))
    if given.cfg is None:
        return None
    places = {"dir": given.config_dir, "name": given.config_name, "path": given.config_path}
    return [
        *given.overrides,
        "hydra.mode=RUN",
        *(f"--config-{kind}={value}" for kind, value in places.items() if value),
    ]


def mode_in(_: Any, config_name: str | None, overrides: Sequence[str]) -> RunMode | None:
    """Stand in for `Hydra.get_mode`, which composes the whole config only to read the mode; kjcm sets it by overrides."""
    given = [word.partition("=")[2] for word in overrides if word_key(word) == "hydra.mode"]
    return RunMode.__members__.get(given[-1]) if given else None


def is_flag(word: str) -> bool:
    """Return whether an argument is an option of Hydra's rather than an override."""
    return not ("=" in word or word.startswith("~")) or word.startswith("-")


def _require_form(config: str, arguments: Sequence[str]) -> None:
    """Raise ConfigError if a word is neither an option of Hydra's nor KEY=VALUE nor ~KEY."""
    parser = get_args_parser()
    vars(parser)["error"] = _refuse
    options = {option for action in parser._actions for option in action.option_strings}
    for word in arguments:
        name = word.partition("=")[0]
        if word.startswith("-") and not any(option.startswith(name) for option in options):
            near = _keys_that_end_in(name.lstrip("-"), config)
            example = f", as {near[0]}=VALUE" if near else ""
            raise ConfigError(f"{word}: there is no such option. Every choice is a key, set as KEY=VALUE{example}.")
        if not word.startswith(("-", "~")) and (config_folder() / word_key(word)).is_dir() and not _names_choices(word):
            raise ConfigError(NO_SUCH_CHOICE.format(some([word])))
    known, _ = parser.parse_known_args(sorted(arguments, key=is_flag))
    for word in known.overrides:
        key, equals, _ = word.partition("=")
        if not key or not (equals or word.startswith("~")):
            before = arguments[max(arguments.index(word) - 1, 0)]
            spaced = quote(f"{before} {word}" if "=" in before and before != word else "KEY=A VALUE")
            raise ConfigError(
                f"{word!r}: this is no KEY=VALUE. Leave no space around =, and quote a value with spaces: {spaced}. Several "
                "values of a multirun are joined by commas: -m KEY=A,B."
            )


def _refuse(message: str) -> NoReturn:
    """Stand in for argparse's function that prints the usage of a program and ends it."""
    raise ConfigError(f"{message}. See --help.")


def _names_choices(word: str) -> bool:
    """Return whether the value of a group is a name or names: Hydra breaks on others, if they are in a list."""
    if not _is_read(word):
        return True  # a number in a sweep is quoted later, and Hydra names what it cannot read
    value = OverridesParser.create().parse_override(word).value()
    return not isinstance(value, list) or all(isinstance(one, str) for one in value)


def _keys_that_end_in(name: str, config: str) -> list[str]:
    """Return the keys of a command whose last part is, or is like, the name of an option."""
    by_end = {key.rpartition(".")[2]: key for key in reversed(command_keys(config))}
    return [by_end[end] for end in get_close_matches(name.replace("-", "_"), by_end, n=1)]


def _readable(word: str, *, swept: bool) -> str:
    """Return an override with the quotes that Hydra needs; where it still cannot read it, with its whole value quoted."""
    key, equals, value = word.partition("=")
    if equals and key in PATHS and not value.isascii():
        word = f"{key}={_as_on_disk(value)}"
    made = _quote_text(_quote_number(word), swept=swept)
    return made if not equals or _is_read(made) else f"{key}={quoted(value)}"


def opened(word: str, config: str) -> str:
    """Return an override with the ++ that Hydra wants before a key which an open node does not have yet.

    A view becomes a mapping of one view, because OmegaConf merges a mapping into typed nodes but does not assign one.

    Raises:
        ConfigError: the key is one of an earlier version.
    """
    if (key := word_key(word)) in MOVED:
        raise ConfigError(no_such_key(key, ()))
    if config == "predict" and word.startswith("engine="):  # Hydra would take the group of the trainings' engines
        return f"ray.{word}"
    if (view := VIEW.fullmatch(word)) and not is_sweep(word):
        return f"++model.views={{{view[1]}: {view[2]}}}"
    is_nested_size = key.startswith("model.shape.") and key.count(".") > 2  # sizes are single values
    is_new = is_open(key) and not is_nested_size and key not in _present(config)
    return f"++{word}" if is_new and not word.startswith(("+", "~")) else word


def is_open(key: str) -> bool:
    """Say whether a key belongs to a node that takes any key: an argument of a part that the config names."""
    group, _, name = key.partition(".")
    entry, _, argument = name.partition(".")
    return key.startswith(OPEN) or (group == "logger" and bool(argument) and entry not in LOGGERS)


def _is_read(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def is_sweep(word: str) -> bool:
    """Return whether an override has several values."""
    return _is_read(word) and OverridesParser.create().parse_override(word).is_sweep_override()


def _as_on_disk(value: str) -> str:
    """Return a path as the disk spells it: Hangul in another Unicode form (NFC, NFD) than typed is the same name."""
    spelled = (value, *(unicodedata.normalize(form, value) for form in ("NFC", "NFD")))
    with suppress(OSError, RuntimeError):  # a name that is too long, or ~NAME without such a user
        return next((one for one in spelled if Path(one).expanduser().exists()), value)
    return value


def _quote_number(word: str) -> str:
    """Quote the numbers in `cutoff=10,100`: Hydra wants a group's choices to be text."""
    key, _, value = word.partition("=")
    if not value or not (config_folder() / key).is_dir():
        return word
    if swept := re.fullmatch(r"choice\((.*)\)", value):
        value = swept[1]  # the same; of a group's choices in brackets Hydra loses the quotes
    return f"{key}=" + ",".join(f'"{choice}"' if choice.isdigit() else choice for choice in value.split(","))


def _quote_text(word: str, *, swept: bool) -> str:
    """Quote what Hydra takes in quotes only: values that are not ASCII, and files' names with marks of its own, as `가(1).csv`.

    In a sweep such marks are the sweep's.
    """
    key, equals, value = word.partition("=")
    if not equals or any(mark in value for mark in "'\"$"):
        return word
    if word_key(word) == "model.members":  # overrides have a =, which Hydra takes in quotes only
        return f"{key}=" + PART.sub(lambda part: quoted(part[0]), value)
    marked = any(mark in value for mark in "[]{}()")
    one = key in (("runs", "cache") if swept else PATHS - {*INPUTS})  # keys that no sweep gives several values
    if (not swept and FILE_NAME.fullmatch(value)) or (one and (marked or "," in value or not value.isascii())):
        return f"{key}={quoted(value)}"
    parts = PART if marked else re.compile("[^,]+")
    return f"{key}=" + parts.sub(lambda part: part[0] if part[0].isascii() else quoted(part[0]), value)


@lru_cache
def _present(config: str) -> frozenset[str]:
    """Return every dotted key that a command's config has by default, those of open nodes too."""

    def below(node: Any, lead: str) -> Iterator[str]:
        for name, value in node.items() if isinstance(node, dict) else ():
            yield f"{lead}{name}"
            yield from below(value, f"{lead}{name}.")

    return frozenset(below(OmegaConf.to_container(composed_config(config)), ""))


@lru_cache
def command_keys(config: str) -> tuple[str, ...]:
    """Return the keys of a command's config and its groups."""
    return tuple(dict.fromkeys((*known_keys(composed_config(config)), *group_names(config))))


def composed_config(config: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return a command's config, also from within a command that Hydra runs."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(config, list(overrides))


def group_names(config: str) -> list[str]:
    """Return the groups in the defaults list of a config and of the plain configs in it; it is a file, or in Hydra's store."""
    names: list[str] = []
    file = config_folder() / f"{config}.yaml"
    node = OmegaConf.load(file) if file.is_file() else ConfigStore.instance().load(file.name).node
    for entry in OmegaConf.select(node, "defaults", default=[]):
        if isinstance(entry, str):
            names += group_names(entry) if "@" not in entry and entry != "_self_" else []
        else:
            names += [str(name) for name in entry if not str(name).startswith("override")]
    return names
