"""docs/config.md is generated and names keys that exist; the schemas in docs describe what runs write."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from kjcm.keys.commands.index import COMMANDS, GROUPS, lead_of
from kjcm.keys.key import keys_of, own_keys
from kjcm.keys.reference import reference
from tests.conftest import ROOT

REFERENCE = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")


def test_config_reference_is_up_to_date() -> None:
    """To update it: python -m kjcm.keys > docs/config.md."""
    assert reference() == REFERENCE


def test_every_key_has_a_row_and_a_help() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| [^|]+ \| `[^`]*` \| ([^|]+) \|$", REFERENCE, re.MULTILINE))
    known = {key for kind in COMMANDS.values() for key, _, _ in keys_of(kind, without=tuple(GROUPS))}
    known |= {
        key
        for group, kinds in GROUPS.items()
        for choice, kind in kinds.items()
        for key, _, _ in keys_of(kind, lead_of(group, choice))
    }
    assert known <= set(rows)
    assert not [name for name, text in rows.items() if not text.endswith((".", "]", ")"))]
    nodes = {key.rpartition(".")[0] for key in known}
    quoted = [part.partition("=")[0] for text in re.findall(r"`([^`\n]+)`", REFERENCE) for part in text.split()]
    dotted = {part for part in quoted if re.fullmatch(rf"({'|'.join(GROUPS)}|seeds|triage)\.[\w.]+", part)}
    assert sorted(dotted - known - nodes) == []


def test_a_help_is_a_line() -> None:
    for kind in (*COMMANDS.values(), *(kind for kinds in GROUPS.values() for kind in kinds.values())):
        assert not [name for name, key in own_keys(kind).items() if len(key.help) > 120], kind


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
    texts += (ROOT / "conf").rglob("*.yaml")
    long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in texts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert not long
