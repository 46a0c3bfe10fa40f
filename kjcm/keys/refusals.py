"""Say in plain words why Hydra makes no config of some overrides, and which keys or choices may be meant."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from traceback import walk_tb

from hydra import compose
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kjcm.errors import ConfigError, first_line, some
from kjcm.keys.checks import check
from kjcm.keys.commands.index import GROUPS
from kjcm.keys.composition import no_such_key, no_such_keys, unknown_keys, without_hydra
from kjcm.keys.overrides import (
    NO_SUCH_CHOICE,
    command_keys,
    composed_config,
    config_folder,
    for_hydra,
    is_flag,
    is_sweep,
    opened,
    quoted,
    word_key,
)
from kjcm.shell import quote

NO_CHOICE = "Config group override"  # so begins the ValueError that Hydra raises for group=null or group=1.5
FULL_KEY = re.compile(r"^ *full_key: (\S+)$", re.MULTILINE)


def checked_config(
    command: str, words: Sequence[str], change: Callable[[DictConfig], None] = lambda cfg: None
) -> tuple[DictConfig, DictConfig]:
    """Return a command's config with some overrides, with and without Hydra's own node; Hydra is running.

    Args:
        command: its name.
        words: the overrides.
        change: changes the config before it is checked.

    Raises:
        ConfigError: the overrides make no valid config.
    """
    try:
        whole = compose(command, [opened(word, command) for word in words], return_hydra_config=True)
        cfg = without_hydra(whole)
        change(cfg)
        check(cfg)
    except Exception as error:
        if not is_from_hydra(error):
            raise
        raise ConfigError(said(error, command, words)) from None
    return whole, cfg


def is_from_hydra(error: Exception) -> bool:
    """Return whether Hydra or OmegaConf raised an error, rather than code of kjcm that they called."""
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    raised = [package for package in packages if package in ("kjcm", "hydra", "hydra_plugins", "omegaconf")]
    return raised[-1:] not in ([], ["kjcm"])


def said(error: Exception, config: str, arguments: Sequence[str]) -> str:
    """Return what Hydra says of overrides that make no config, in a line, with the keys that may be meant."""
    text = str(error)
    if text.startswith(NO_CHOICE):
        wrong = [word for word in arguments if _is_no_choice(word)]
        return NO_SUCH_CHOICE.format(some(wrong or [word for word in arguments if word.startswith("hydra")]))
    if not isinstance(error, HydraException | OmegaConfBaseException):
        words = [word for word in arguments if not is_flag(word)]
        wrong = [word for word in words if _breaks_hydra(config, word)] or words
        if left_out := _in_no_group(wrong, command_keys(config)):
            return no_such_key(left_out, command_keys(config))
        why = " ".join(text.split())[:200] or type(error).__name__  # broken YAML is named in later lines
        return f"{some(wrong)}: no config can be made with this ({why})." if wrong else why
    if isinstance(error, OverrideParseException):
        return _not_read(error.override)
    if several := re.match(r"Ambiguous value for argument '(.+)'", text):
        return _not_read(several[1])
    choices = re.findall(r"^\t(?!provider=)(\S+)$", text, re.MULTILINE)
    if group := re.match(r"You must specify '([^']+)'", text):
        return f"Give {group[1]}=NAME: choose one of {', '.join(choices)}."
    if choice := re.search(r"Could not (?:find|load) '((?:hydra/)?[^'/]+)/([^']*)'", text):
        return _no_choice(choice[1], choice[2], choices)
    if there := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"{there[1]} is a key of the config already: leave out the + before it."
    cause = str(error.__cause__ or "")
    if unknown := _unknown_key(error):
        file = re.match(r"In '([^']+)'", text)
        return (f"{file[1]}.yaml: " if file else "") + no_such_keys(
            _unknown(unknown, config, arguments), command_keys(config)
        )
    unhelpful = ("To append to your config", "Config search path", "\tprovider=", "    ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(unhelpful)]
    if (merged := re.match(r"Error merging override (.*)", text)) and cause:
        typed = next((word for word in arguments if word_key(word) == word_key(merged[1])), merged[1])
        is_text = re.match(r"Cannot convert '(list|dict)' to string", cause)
        return f"{typed}: {cause.splitlines()[0]}." + (f" As one text: {_as_text(typed)}." if is_text else "")
    return "\n".join([*lines, *cause.splitlines()[:1]]) or first_line(error)


def _unknown_key(error: Exception) -> str:
    """Return the key that Hydra says is not in the config; '' where it says something else."""
    text, cause = str(error), str(error.__cause__ or "")
    unknown = re.match(r"(?:Could not override|Could not delete from config\.) '([^']+)'", text)
    key = FULL_KEY.search(cause or text) if re.search(r"^Key '", cause or text, re.MULTILINE) else None
    return max((found[1] for found in (key, unknown) if found), key=len, default="")  # either may be of a node


def _unknown(first: str, config: str, arguments: Sequence[str]) -> list[str]:
    """Return the keys of the overrides that the command does not have; Hydra names only the first."""
    found, words = [first], [word for word in arguments if not (is_flag(word) or is_sweep(word))]
    while (left := [word for word in words if not f"{found[-1]}.".startswith(f"{word_key(word)}.")]) != words:
        words = left
        try:
            cfg = composed_config(config, for_hydra(config, words, swept=False))
        except Exception as error:
            found += filter(None, [_unknown_key(error)])
        else:
            return [*found, *unknown_keys(cfg)]
    return found


def _in_no_group(words: Sequence[str], known: Sequence[str]) -> str:
    """Return the first key, without what is within it, whose group the config leaves out; '' where there is none."""
    keys = (word_key(word).split(".") for word in words)
    found = (
        ".".join(key[:2]) for key in keys if key[0] in GROUPS and not any(one.startswith(f"{key[0]}.") for one in known)
    )
    return next(found, "")


def _no_choice(group: str, name: str, choices: Sequence[str]) -> str:
    """Return the message for a choice that a group does not have."""
    near = get_close_matches(name, choices, n=1)
    meant = f" Do you mean {group}={near[0]}?" if near else ""
    return f"{group}={name}: there is no such choice.{meant} Choose one of {', '.join(choices)}."


def _not_read(override: str) -> str:
    """Return what to write instead of an override that Hydra cannot read or takes for several values."""
    if "," in override:
        return f"{override!r}: these are several values. Add -m for a run of each, or quote them: {_as_text(override)}."
    return f"{override!r}: this is no KEY=VALUE that can be read. Quote the value: {_as_text(override)}."


def _as_text(override: str) -> str:
    """Return an override, as a word of a shell, whose value is one text."""
    key, _, value = override.partition("=")
    return quote(f"{key}={quoted(value)}")


def _breaks_hydra(config: str, word: str) -> bool:
    """Return whether one override alone makes Hydra fail in a way for which it has no exception."""
    try:
        composed_config(config, for_hydra(config, [word], swept=False))
    except Exception as error:
        return not isinstance(error, HydraException | OmegaConfBaseException)
    return False


def _is_no_choice(word: str) -> bool:
    key, equals, value = word.partition("=")
    folder = config_folder() / key
    return bool(equals) and folder.is_dir() and not all((folder / f"{one}.yaml").is_file() for one in value.split(","))
