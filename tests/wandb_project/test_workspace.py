"""`kjcm wandb workspace`: its panels are those of docs/wandb.md, and it replaces nothing unasked."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, command
from tests.tracking.wandb_server import Server

Out = pytest.CaptureFixture[str]
VIEWS = {
    "Run History Line Plot": "line", "Bar Chart": "bar", "Media Browser": "image", "Weave": "table",
    "Parallel Coordinates Plot": "parallel coordinates", "Parameter Importance": "importance",
}  # fmt: skip


def documented() -> list[list[str]]:
    """Return section, panel, type, x-axis and keys of each row of the table in docs/wandb.md."""
    page = (ROOT / "docs" / "wandb.md").read_text(encoding="utf-8")
    table = page.split("| Section | Panel | Type | X-axis | Keys |\n|---|---|---|---|---|\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def specified(folder: Path, *words: str) -> Any:
    assert command("wandb", "workspace", "dry_run=true", f"out={folder}/spec.json", "overwrite=true", *words) == 0
    return json.loads((folder / "spec.json").read_text(encoding="utf-8"))


def own_key(name: str) -> str:
    """Return the name of a key as kjcm has it."""
    return re.sub(r"^(config:|summary:|summary_metrics\.)", "", name).replace(".value.", ".")


def keys_of(panel: Any) -> list[str]:
    config = panel["config"]
    if panel["viewType"] == "Weave":
        return [config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]]
    if "columns" in config:
        return [own_key(column["accessor"]) for column in config["columns"]]
    return list(config.get("metrics") or config.get("mediaKeys") or [config["targetKey"]])


def without_ids(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {key: without_ids(value) for key, value in spec.items() if key not in ("__id__", "id")}
    return [without_ids(one) for one in spec] if isinstance(spec, list) else spec


def test_the_panels_are_those_of_the_docs(here: Path) -> None:
    section = specified(here)["spec"]["section"]
    (runs,) = section["runSets"]
    columns = [own_key(one) for one in runs["runFeed"]["columnOrder"] if one != "run:displayName"]
    names = {"run:state": "State", "tags:__ALL__": "Tags"}
    found = [["Runs", "table", "run table", "", [names.get(one, one) for one in columns]]]
    for part in section["panelBankConfig"]["sections"]:
        for panel in part["panels"]:
            config, kind = panel["config"], VIEWS[panel["viewType"]]
            kind = f"smoothed {kind}" if config.get("smoothingWeight") else kind
            x = config.get("xAxis", "")
            found.append([part["name"], config.get("chartTitle"), kind, x, keys_of(panel)])
    told = [
        [name, title, kind, x.strip("`"), re.findall(r"`([^`]+)`", keys)] for name, title, kind, x, keys in documented()
    ]
    assert [[own if own is not None else docs for own, docs in zip(one, other, strict=True)]
            for one, other in zip(found, told, strict=True)] == told  # fmt: skip
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "val_f1_weighted"}, "ascending": False}]


def test_the_panels_show_what_a_run_logs(swept: Path) -> None:
    """Compare the keys with those that an offline run stored; curves of an encoder are other tests' matter."""
    from kjcm.tracking.upload import summary_of
    from kjcm.wandb_project.panels import COLUMNS, PANELS
    from tests.tracking.offline import of_run

    run = next(iter(swept.glob("runs/*/*/DONE"))).parent
    stored = of_run(run)
    shown = {key for panel in PANELS if panel.section == "Test" for key in panel.keys}
    assert shown <= {*stored.summary, *summary_of(json.loads((run / "report.json").read_text()))}
    plain = {key for key in COLUMNS if "." not in key and key not in ("State", "Tags", "val_loss")}
    assert plain <= set(stored.summary)


def test_what_is_sent_is_what_dry_run_shows(server: Server, here: Path, capfd: Out) -> None:
    asked = list(server.asked)
    spec = specified(here, "name=내 화면")
    assert server.asked == asked and spec["entity"] is None
    assert command("wandb", "workspace", "name=내 화면") == 0
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "kjcm", "내 화면")
    assert without_ids(json.loads(view["spec"])) == without_ids(spec["spec"])
    assert f"{server.address}/me/kjcm?nw=" in capfd.readouterr().out


def test_a_view_is_replaced_only_on_request(server: Server, capfd: Out) -> None:
    for name in ("other", "kjcm"):
        assert command("wandb", "workspace", f"name={name}") == 0
    before = [dict(view) for view in server.views]
    server.views[1]["spec"] = "{}"
    assert command("wandb", "workspace") == 1
    assert server.views[1]["spec"] == "{}" and "overwrite=true" in capfd.readouterr().err
    assert command("wandb", "workspace", "overwrite=true") == 0
    assert [view["id"] for view in server.views] == [view["id"] for view in before]
    assert [view["name"] for view in server.views] == [view["name"] for view in before]
    assert without_ids(json.loads(server.views[1]["spec"])) == without_ids(json.loads(before[1]["spec"]))
    server.views.append({**server.views[1], "id": "copy"})
    assert command("wandb", "workspace", "overwrite=true") == 1 and "2 views" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("project=other",), 1, "no project me/other"),
        (("entity=team",), 1, "no project team/kjcm"),
        (("project=a/b",), 2, "project=a/b"),
        (("entity=a/b",), 2, "entity=a/b"),
        (("name=☺",), 2, "name=☺"),
        (("name=''",), 2, "name="),
        (("out=a.json",), 2, "dry_run=true"),
    ],
)
def test_a_wrong_name_is_refused(server: Server, words: tuple[str, ...], code: int, said: str, capfd: Out) -> None:
    assert command("wandb", "workspace", *words) == code
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and not server.views


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_is_named(
    server: Server, status: int, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kjcm.wandb_project.connection.SECONDS", 2)  # W&B repeats the request as long
    server.status = status
    assert command("wandb", "workspace") == 1
    error = capfd.readouterr().err
    assert server.address in error and len(error.splitlines()) == 1 and not server.views


def test_without_a_key_or_the_package_nothing_is_tried(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Out
) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.delenv("WANDB_API_KEY")
    assert command("wandb", "workspace") == 1 and "wandb login" in capfd.readouterr().err
    monkeypatch.setattr("kjcm.wandb_project.connection.find_spec", lambda name: None)
    assert command("wandb", "workspace", "dry_run=true") == 1
    assert "kjcm[wandb-workspaces]" in capfd.readouterr().err and not server.asked


def test_an_existing_file_is_kept(here: Path, capfd: Out) -> None:
    (here / "spec.json").write_text("mine")
    assert command("wandb", "workspace", "dry_run=true", "out=spec.json") == 1
    assert (here / "spec.json").read_text() == "mine" and "overwrite=true" in capfd.readouterr().err


def test_help_lists_the_commands_of_wandb(here: Path, capfd: Out) -> None:
    assert command("wandb") == command("wandb", "--help") == 0
    one, other = capfd.readouterr().out.split("usage:")[1:]
    assert one.split("kjcm 0")[0] == other and all(f"wandb {name} " in one for name in ("workspace", "report", "sync"))
    assert command("wandb", "workspaces") == 2 and "`kjcm wandb workspace`" in capfd.readouterr().err
    assert command("wandb", "workspace", "--help") == 0 and "project=kjcm" in capfd.readouterr().out
