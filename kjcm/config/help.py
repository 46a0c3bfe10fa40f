"""`kjcm COMMAND --help`: the groups and the keys of a command, each key with its value and its help."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml
from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kjcm.config.checks import require_known
from kjcm.config.composition import typed_nodes
from kjcm.config.key import Key, own_keys
from kjcm.config.overrides import config_folder, group_names
from kjcm.errors import ConfigError

WIDTH = 40  # of the column of keys and values
LINK = re.compile(r"\[[^]]+\]\(([^)#]+)[^)]*\)")


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
    cfg = _composed(config, arguments)
    require_known(cfg)
    keys = [_entry(f"{lead}{name}={value_text(value)}", key) for lead, name, value, key in _entries(cfg)]
    before = ["Groups (choose with GROUP=NAME):", "", *(groups or ["  (none)"]), ""]
    return "\n".join([*before, "Keys and their values (set with KEY=VALUE):", "", *keys])


def value_text(value: Any) -> str:
    """Return a value as YAML in a line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n...\n").strip()


def _composed(config: str, arguments: Sequence[str]) -> DictConfig:
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


def _entry(setting: str, key: Key) -> str:
    allowed = ", ".join(map(str, key.choices)) or key.range(guards=False)
    text = LINK.sub(r"docs/\1", key.help) + (f" [{allowed}]" if allowed else "")
    lead = f"  {setting}".ljust(WIDTH)
    if len(lead) > WIDTH:
        lead = f"{lead}\n{' ' * WIDTH}"
    width = max(shutil.get_terminal_size().columns, 100)
    first, *rest = fill(text, width - WIDTH).splitlines()
    return "\n".join([f"{lead}{first}", *(f"{' ' * WIDTH}{line}" for line in rest)])
