"""The reference of commands, groups and keys: docs/config.md, and `kjcm COMMAND --help`."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from inspect import getdoc
from pathlib import Path
from textwrap import fill
from typing import Any, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kjcm.errors import ConfigError
from kjcm.keys.checks import require_known
from kjcm.keys.commands.index import COMMANDS, ENTRIES, GROUPS, lead_of
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import register, typed_nodes
from kjcm.keys.key import Key, keys_of, own_keys, type_name
from kjcm.keys.overrides import config_folder, group_names

INTRODUCTION = """\
# Config reference

Every choice is a config key, set on the command line as `KEY=VALUE`. The table of a command or group says of each key
its type with the allowed values, its default and its meaning. `python -m kjcm.keys` generates this page from
kjcm/keys/ and conf/.

- `GROUP=NAME` takes a file of `conf/GROUP/`; `GROUP.KEY=VALUE` sets one key of it and wins over the file.
- A default of `???` means that the key must be given. `${other.key}` is the value of another key.
- `${random_start:A,B}` is A for an encoder with random start weights, and B for one with `model.pretrained`.
- A command refuses unknown keys, however they are written: `KEY=`, `+KEY=`, `++KEY=` or in an experiment file. Only
  `model.shape`, `space` and `where` take keys of any name; the arguments of a `_target_` and `trainer.flags` are
  compared with its signature. A command also refuses overrides that it would not read.
- `kjcm COMMAND --help` shows groups, keys and values; `kjcm COMMAND --cfg job --resolve` resolves all values.
- Values with Hangul, spaces, brackets or `=` need the shell's quotes only: `'data.columns.task=하는 일(직무)'`. Commas
  separate several values, and `[...]` and `{...}` make a list and a mapping; quote such a text twice: `"name='a,
  b'"`.
"""
WIDTH = 120
COLUMN = 40  # width of the column of keys and values in --help
LINK = re.compile(r"\[[^]]+\]\(([^)#]+)[^)]*\)")
HEAD = "| Key | Type | Default | Meaning |\n|---|---|---|---|"
UNTYPED = {
    "cutoff": "The value of `data.cutoff`.",
    "from": "What a training without coded rows learns from ([title-index.md](title-index.md#without-coded-rows)).",
    "experiment": "The paper's models, and recipes for real text. The command line wins over the experiment.",
    "loss": "What a training minimises: `_target_` and its arguments ([extending.md](extending.md)).",
    "optim": "Any `torch.optim.Optimizer`, as `optim._target_=torch.optim.RAdam`, with its arguments as keys of `optim`.",
    "schedule": "Each step's learning rate, as a factor of `optim.lr`.",
    "callbacks": "Lightning callbacks; several as `callbacks=[early_stopping,ema]`.",
    "metrics": "Further torchmetrics, on validation and test rows; several as `metrics=[kappa,matthews]`.",
    "logger": "Where the curves go, several as `logger=[csv,wandb]` ([tracking.md](tracking.md)).",
    "tune": "Search spaces of `kjcm tune` ([tune.md](tune.md#the-space)); each sets `space`.",
}  # groups whose files set keys of other nodes


def reference() -> str:
    """Return the text of docs/config.md."""
    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        commands = [command_section("kjcm", name, kind) for name, kind in COMMANDS.items()]
        groups = [_group(group) for group in group_names("tune")]
    return "\n".join([INTRODUCTION, "## Commands", "", *commands, "## Groups", "", *groups]).rstrip() + "\n"


def command_section(program: str, name: str, kind: type) -> str:
    """Return the section of a command; call it where Hydra is initialised."""
    inherited = {other: base for other, base in COMMANDS.items() if base in kind.__mro__[1:]}
    known = {key for base in inherited.values() for key, _, _ in keys_of(base, without=tuple(GROUPS))}
    keys = {key: (hint, one) for key, hint, one in keys_of(kind, without=tuple(GROUPS)) if key not in known}
    groups = ", ".join(f"`{group}`" for group in group_names(name)) or "none"
    lines = [f"### `{program} {name.replace('_', ' ')}`", "", getdoc(kind) or "", "", fill(f"Groups: {groups}.", WIDTH)]
    if inherited:
        lines.append(f"It has every key of {', '.join(f'`kjcm {other}`' for other in inherited)}, and:")
    return "\n".join([*lines, "", HEAD, *_rows(keys, _defaults(name)), ""])


def _group(group: str) -> str:
    """Return the section of a group."""
    kinds = GROUPS.get(group, {})
    hint = get_type_hints(TrainConfig).get(group)
    about = getdoc(hint) if is_dataclass(hint) else UNTYPED[group]
    default = _choice_of(group)
    files = sorted((config_folder() / group).glob("*.yaml"), key=lambda file: (file.stem != default, file.stem))
    choices = [_choice(f"`{group}={file.stem}`{' (default)' if file.stem == default else ''}", file) for file in files]
    defaults = {**_defaults("train")}
    of: dict[str, list[str]] = {}
    keys: dict[str, tuple[Any, Key]] = {}
    for choice, kind in kinds.items():
        if choice != "any":
            defaults = {**_defaults("train", f"{group}={choice}"), **defaults}
        for key, key_hint, one in keys_of(kind, lead_of(group, choice)):
            keys.setdefault(key, (key_hint, one))
            of.setdefault(key, []).append("encoders" if choice == "any" else f"`{group}={choice}`")
    named = group in ENTRIES  # by the key itself
    only = {key: f"{' or '.join(one)}: " for key, one in of.items() if len(one) < len(kinds) and not named}
    table = ["", HEAD, *_rows(keys, defaults, only)] if keys else []
    return "\n".join([f"### {group}", "", about or "", "", *choices, *table, ""])


def _choice(name: str, file: Path) -> str:
    """Return the line, or lines, on a file of a group."""
    return fill(f"- {name}: {_comment(file.read_text(encoding='utf-8'))}", WIDTH, subsequent_indent="  ")


def _choice_of(group: str) -> str | None:
    """Return the default choice of a group."""
    for config in ("train_common", "tune"):
        for entry in OmegaConf.load(config_folder() / f"{config}.yaml").defaults:
            if not isinstance(entry, str) and group in entry:
                return str(entry[group]) if entry[group] else None
    return None


def _comment(text: str) -> str:
    """Return the first comment of a file of conf/."""
    return next(line[2:] for line in text.splitlines() if line.startswith("# ") and not line.startswith("# @package"))


def _defaults(command: str, *overrides: str) -> dict[str, Any]:
    """Return dotted key -> value of a composed config, interpolations unresolved."""
    return dict(_flat(OmegaConf.to_container(compose(command, list(overrides)), resolve=False)))


def _flat(node: Any, lead: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        yield f"{lead}{name}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{lead}{name}.")


def _rows(
    keys: Mapping[str, tuple[Any, Key]], defaults: Mapping[str, Any], only: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield a row of the table for each key; `only` says before a key's help which choices have the key."""
    for name, (hint, key) in keys.items():
        about = f"{(only or {}).get(name, '')}{key.help}"
        yield f"| `{name}` | {_type(hint, key)} | `{value_text(defaults[name])}` | {about} |"


def _type(hint: Any, key: Key) -> str:
    """Return a key's type, or the values among which it chooses, with its range."""
    name = type_name(hint)
    if key.path or key.identity == "input":
        name = name.replace("text", "path")
    if key.choices:
        name = ", ".join(f"`{choice}`" for choice in key.choices) + (" or null" if name.endswith("null") else "")
    span = key.range(guards=False)
    return f"{name}, {span}" if span else name


def command_help(config: str, arguments: Sequence[str]) -> str:
    """Return the groups and keys of a command.

    Args:
        config: the command's config.
        arguments: those after the command, as Hydra takes them.
    """
    groups = [
        f"  {group:<16}{', '.join(sorted(file.stem for file in (config_folder() / group).glob('*.yaml')))}"
        for group in group_names(config)
    ]
    cfg = _help_config(config, arguments)
    require_known(cfg)
    keys = [_setting(f"{lead}{name}={value_text(value)}", key) for lead, name, value, key in _entries(cfg)]
    before = ["Groups (choose with GROUP=NAME):", "", *(groups or ["  (none)"]), ""]
    return "\n".join([*before, "Keys and their values (set with KEY=VALUE):", "", *keys])


def value_text(value: Any) -> str:
    """Return a value as YAML in a line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n...\n").strip()


def _help_config(config: str, arguments: Sequence[str]) -> DictConfig:
    """Return the command's config, composed without what Hydra's own help needs: that takes seconds."""
    options = get_args_parser().parse_args([*arguments])
    search_path = create_config_search_path(str(config_folder()))
    if options.config_dir is not None:
        folder = Path(options.config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {options.config_dir}: there is no such folder.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    Hydra.create_main_hydra2("kjcm", search_path)
    try:
        single = [
            one for one in OverridesParser.create().parse_overrides(options.overrides) if not one.is_sweep_override()
        ]
        return compose(options.config_name or config, [str(one.input_line) for one in single])
    finally:
        GlobalHydra.instance().clear()


def _entries(cfg: DictConfig) -> Iterator[tuple[str, str, Any, Key]]:
    """Yield the node with a dot behind it, the name, the value and the `Key` of each key."""
    for lead, kind, node in typed_nodes(cfg):
        values: dict[Any, Any] = OmegaConf.to_container(node, resolve=False)  # type: ignore[assignment]
        for name, key in own_keys(kind).items():
            if key.help and name in values:
                yield lead, name, values[name], key


def _setting(setting: str, key: Key) -> str:
    allowed = ", ".join(map(str, key.choices)) or key.range(guards=False)
    text = LINK.sub(r"docs/\1", key.help) + (f" [{allowed}]" if allowed else "")
    lead = f"  {setting}".ljust(COLUMN)
    if len(lead) > COLUMN:
        lead = f"{lead}\n{' ' * COLUMN}"
    width = max(shutil.get_terminal_size().columns, 100)
    first, *rest = fill(text, width - COLUMN).splitlines()
    return "\n".join([f"{lead}{first}", *(f"{' ' * COLUMN}{line}" for line in rest)])
