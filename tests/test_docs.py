"""The config reference says of every key and choice what is so; the schemas in docs describe what runs write."""

import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from kjcm import schema
from tests.conftest import ROOT

CONF = ROOT / "conf"
REFERENCE = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`\n]+)`", REFERENCE)
ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]+) \| `([^`]*)` \| ([^|]+) \|$", re.MULTILINE)
COMMANDS, GROUPS = schema.NODES[""], {group: nodes for group, nodes in schema.NODES.items() if group}
FOLDERS = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
CHOICES = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in FOLDERS}
NAMES = {str: "text", int: "int", float: "float", bool: "bool", Any: "any", type(None): "null"}
Keys = dict[str, Any]


def keys_of(node: type, lead: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and type of a schema node; nodes that are groups of their own are left out."""
    hints = typing.get_type_hints(node)
    for field in fields(node):
        kind, key = hints[field.name], f"{lead}{field.name}"
        if field.name in GROUPS and not lead:
            continue
        if is_dataclass(kind):
            yield from keys_of(typing.cast(type, kind), f"{key}.")
        else:
            yield key, kind


def named(kind: Any) -> str:
    """Return what the reference calls a type."""
    if isinstance(kind, types.UnionType):
        return " or ".join(named(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is dict:
        return "mapping"
    return f"list of {named(typing.get_args(kind)[0])}" if typing.get_origin(kind) is list else NAMES[kind]


def section(heading: str) -> str:
    """Return the text under a heading of the third rank."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/config.md has no section '### {heading}'"
    return found[1]


TAKEN_OVER = {
    "reproduce": ("train", "report"),
    "tune": ("train",),
    "triage": ("predict",),
    "bench_train": ("train",),
}  # command -> commands of which it has every key


def own_keys(command: str) -> Keys:
    """Return the keys that a command's section names: those that it does not share with a section referred to."""
    others = {key for other in TAKEN_OVER.get(command, ()) for key, _ in keys_of(COMMANDS[other])}
    keys = dict(keys_of(COMMANDS[command]))
    return {key: kind for key, kind in keys.items() if key not in others}


def heading_of(command: str) -> str:
    """Return the heading of a command's section: its config is named with _ between its words."""
    return f"`kjcm {command.replace('_', ' ')}`"


SECTIONS: dict[str, Keys] = {heading_of(command): own_keys(command) for command in COMMANDS} | {
    group: {key: kind for node in nodes.values() for key, kind in keys_of(node, f"{group}.")}
    for group, nodes in GROUPS.items()
}


def test_config_reference_names_every_key() -> None:
    for heading, keys in SECTIONS.items():
        found = [key for key, *_ in ROW.findall(section(heading))]
        assert sorted(found) == sorted(keys), heading
        assert section(heading).count("\n| ") == len(found) + bool(found), f"{heading}: a row is not in the common form"
    known = {key for keys in SECTIONS.values() for key in keys}
    known |= {key.rpartition(".")[0] for key in known}  # data.columns
    words = [word.partition("=")[0] for quoted in QUOTED for word in quoted.split()]
    dotted = {word for word in words if re.fullmatch(rf"({'|'.join(GROUPS)}|seeds)\.[\w.]+", word)}
    assert sorted(dotted - known) == []


@pytest.mark.parametrize("heading", SECTIONS)
def test_config_reference_gives_type_and_default(heading: str) -> None:
    """The default is that of the group's default choice, else of the choice that has the key."""
    command = heading.strip("`").removeprefix("kjcm ").replace(" ", "_") if heading.startswith("`") else "train"
    choices: list[list[str]] = [[]]
    if heading in ("data", "logger"):
        choices += [[f"{heading}={choice}"] for choice in CHOICES[heading]]
    values: Keys = {}
    for overrides in choices:
        whole = composed(command, overrides)
        for key in SECTIONS[heading]:
            node: Any = whole
            for part in key.split("."):
                node = node.get(part, ...) if isinstance(node, dict) else ...
            if node is not ...:
                values.setdefault(key, node)
    for key, kind, default, _ in ROW.findall(section(heading)):
        assert kind == named(SECTIONS[heading][key]), key
        assert OmegaConf.to_container(OmegaConf.create(f"value: {default}")) == {"value": values[key]}, key


def composed(command: str, overrides: list[str]) -> Keys:
    """Return a command's config with its interpolations as they stand."""
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(command, overrides), resolve=False)
    assert isinstance(config, dict)
    return typing.cast(Keys, config)


def test_config_reference_names_every_choice() -> None:
    for group, choices in CHOICES.items():
        lines = re.findall(rf"^- `{group}=(\w+)`( \(default\))?: .", section(group), re.MULTILINE)
        assert sorted(name for name, _ in lines) == choices, group
        files = [OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")) for name in ("train_common", "tune")]
        default = [entry for file in files for entry in file["defaults"] if isinstance(entry, dict)]  # type: ignore[index,call-overload]
        chosen = {name: value for entry in default for name, value in entry.items()}
        assert [name for name, mark in lines if mark] == ([str(chosen[group])] if chosen[group] else []), group


@pytest.mark.parametrize("name", ["report", "cohort", "metrics", "bench"])
def test_schemas_are_schemas_and_describe_every_key(name: str) -> None:
    """That real files fit them is tested where runs are made."""
    whole = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(whole)
    waiting: list[Any] = [whole]
    for node in waiting:
        parts = node.values() if isinstance(node, dict) else node
        waiting += [part for part in parts if isinstance(part, dict | list)]
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            assert node["additionalProperties"] is False
            assert set(node.get("required", [])) <= set(node["properties"])
            assert [key for key, value in node["properties"].items() if "description" not in value] == []


def test_no_line_is_longer_than_a_reader_likes() -> None:
    """Hold docs and configs to 120 characters a line; a row of a table cannot break."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").glob("*.md")]
    texts += CONF.rglob("*.yaml")
    long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in texts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert not long
