"""`kjcm push`: what is sent, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import metadata_load

from tests.conftest import Run, command
from tests.hub.hub_server import MADE, Hub, Repository

REPO = "me/kjcm-twin"
MODEL = {
    "README.md", "calibration.json", "config.json", "kjcm.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "triage.safetensors",
}  # fmt: skip


def push(run: Path, *words: str) -> int:
    return command("push", f"run={run}", f"repo={REPO}", *words)


@pytest.fixture
def run(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(calibrated, tmp_path / "run")
    return tmp_path / "run"


def of_real_answers(run: Path) -> None:
    """Let a run's model look as if it was not trained on the twin."""
    file = run / "model" / "kjcm.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "synthetic": False}), encoding="utf-8")


def test_a_dry_run_lists_the_files_and_asks_nobody(
    calibrated: Path, hub: Hub, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(calibrated, "dry_run=true") == 0
    said = capsys.readouterr().out.splitlines()
    sizes = {name: f"{(calibrated / 'model' / name).stat().st_size:,}" for name in MODEL}
    assert {tuple(line.split()) for line in said[: len(MODEL)]} == {(size, name) for name, size in sizes.items()}
    assert hub.asked == [] and not hub.repositories


def test_the_model_its_card_and_calibration_are_sent(
    calibrated: Path, hub: Hub, here: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert push(calibrated, "message=첫 모델") == 0
    made = hub.repositories[REPO]
    assert made.private and made.messages == ["첫 모델"]
    sent = hub.files(REPO)
    assert set(sent) == {*MODEL, ".gitattributes"}
    assert all(sent[name] == (calibrated / "model" / name).read_bytes() for name in MODEL)
    (tmp_path / "card.md").write_bytes(sent["README.md"])
    assert "synthetic" in metadata_load(tmp_path / "card.md")["tags"]
    out, errors = capfd.readouterr()
    commit = made.branches["main"][-1]
    size = sum(len(sent[name]) for name in MODEL)
    assert f"{hub.address}/{REPO}/commit/{commit}" in out and f"{size:,} bytes" in out
    assert hub.token not in out + errors and "HTTP" not in out + errors
    assert hub.tokens["hub"] >= {hub.token} and hub.tokens["cdn"] == {None}
    assert push(calibrated) == 0
    assert made.branches["main"][-1] == commit and commit in capfd.readouterr().out


def test_the_next_version_is_a_commit_on_top(run: Path, hub: Hub, here: Path) -> None:
    assert push(run) == 0
    made = hub.repositories[REPO]
    before = made.branches["main"][-1]
    made.add("main", {**hub.files(REPO), "linear.json": b"{}", "LICENSE": b"mine", "data/linear.json": b"{}"}, "edited")
    card = run / "model" / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\n둘째\n", encoding="utf-8")
    assert push(run) == 0
    sent = hub.files(REPO)
    assert set(sent) == {*MODEL, ".gitattributes", "LICENSE", "data/linear.json"}
    assert sent["README.md"] == card.read_bytes() and "kjcm" in made.messages[-1]
    assert hub.files(REPO, before)["README.md"] != sent["README.md"]
    puts = [one for one in hub.asked if one.startswith("PUT")]
    assert len(puts) == 2  # the weights have not changed


def test_a_branch_is_made(run: Path, hub: Hub, here: Path) -> None:
    assert push(run, "revision=v2", "private=false") == 0
    made = hub.repositories[REPO]
    assert not made.private and made.branches["main"] == [MADE] and set(hub.files(REPO, "v2")) > MODEL
    assert push(run, "revision=v2", "private=false") == 0 and len(made.branches["v2"]) == 2


def test_a_repository_with_something_else_is_not_overwritten(run: Path, hub: Hub, here: Path) -> None:
    made = hub.repositories[REPO] = Repository(private=True)
    made.add("main", {"README.md": b"other", "linear.json": b"theirs", "config.json": b"{}"}, "other")
    for words in ([], ["revision=v2"]):
        assert push(run, *words) == 1
    assert len(made.messages) == 1 and list(made.branches) == ["main"]
    assert push(run, "overwrite=true") == 0
    sent = hub.files(REPO)
    assert set(sent) == {*MODEL, "linear.json"} and sent["linear.json"] == b"theirs" and sent["README.md"] != b"other"


def test_a_public_repository_is_not_filled_unasked(run: Path, hub: Hub, here: Path) -> None:
    made = hub.repositories[REPO] = Repository(private=False)
    assert push(run) == 1 and not made.messages
    assert push(run, "private=false") == 0 and len(made.messages) == 1


def test_a_commit_in_between_is_not_lost(run: Path, hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    made = hub.repositories[REPO] = Repository(private=True)
    before = HfApi.create_commit

    def late(self: HfApi, *args: Any, **options: Any) -> Any:
        made.add("main", {**hub.files(REPO), "kjcm.json": b"another push"}, "another push")
        return before(self, *args, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    assert push(run) == 1 and hub.files(REPO)["kjcm.json"] == b"another push"


@pytest.mark.parametrize("token", ["", "hf_wrong"])
def test_who_may_not_write_is_told_of_the_token(
    run: Path, hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert push(run) == 1 and not hub.repositories
    said = "".join(capfd.readouterr())
    assert "HF_TOKEN" in said and "hf_wrong" not in said


def test_a_broken_upload_is_finished_by_the_next(run: Path, hub: Hub, here: Path) -> None:
    hub.faults["upload"] = 403
    assert push(run) == 1 and set(hub.files(REPO)) == {".gitattributes"}
    hub.faults.clear()
    assert push(run) == 0 and set(hub.files(REPO)) == {*MODEL, ".gitattributes"}


def test_the_hub_out_of_reach(run: Path, hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert push(run) == 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.stop()
    assert push(run) == 1


def test_only_whole_models_are_sent(run: Path, hub: Hub, here: Path) -> None:
    card, weights = run / "model" / "README.md", run / "model" / "model.safetensors"
    whole = {file: file.read_bytes() for file in (card, weights)}
    for file, content in (
        (card, whole[card].replace(b", synthetic]", b"]")),
        (card, b"no header"),
        (card, b"---\na: [\n---\n"),
        (card, b"---\nname: \xff\n---\n"),
        (weights, whole[weights][:-1]),
    ):
        file.write_bytes(content)
        assert push(run, "dry_run=true") == 1
        file.write_bytes(whole[file])
    card.unlink()
    assert push(run, "dry_run=true") == 1
    card.write_bytes(whole[card])
    (run / "DONE").unlink()
    assert push(run) == 1
    assert command("push", f"run={run}", "repo=twin") == 2 and hub.asked == []


def test_a_vocabulary_of_answers_is_sent_on_request_only(
    run: Path, hub: Hub, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_real_answers(run)
    assert push(run) == 1 and hub.asked == []
    assert "share_text=true" in capsys.readouterr().err
    assert push(run, "share_text=true") == 0 and set(hub.files(REPO)) > MODEL
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "kind: trained" in text
    config.write_text(text.replace("kind: trained", "kind: huggingface"), encoding="utf-8")
    assert push(run) == 0  # a tokenizer of the hub
    identity = run / "identity.json"
    record = json.loads(identity.read_text(encoding="utf-8"))
    record["inputs"]["tokenizer.path"] = "0" * 64  # of a folder that may be gone
    identity.write_text(json.dumps(record), encoding="utf-8")
    assert push(run) == 1


@pytest.mark.slow
def test_a_process_of_its_own_finds_hub_and_token_in_its_environment(
    calibrated: Path, hub: Hub, kjcm: Run, tmp_path: Path
) -> None:
    env = {
        "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    done = kjcm("push", f"run={calibrated}", f"repo={REPO}", env=env, fresh=True)
    assert hub.repositories[REPO].branches["main"][-1] in done.stdout and hub.token not in done.stdout + done.stderr
    told = kjcm("triage", f"run={REPO}", env=env, fresh=True).stdout
    assert told == kjcm("triage", f"run={calibrated}", fresh=True).stdout
