"""Models from the hub, for `kjcm.load`, `kjcm predict` and `kjcm triage`."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kjcm
from kjcm.errors import KjcmError
from kjcm.hub.models import is_model_file, model_folder
from tests.conftest import command
from tests.hub.hub_server import Hub
from tests.hub.test_push import of_real_answers
from tests.training.test_ensemble import DATA, SVM, members

REPO = "me/kjcm-twin"
TASKS = ["택시 운전", "벼농사", "예금 상담"]


def cached_files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def require_whole(cache: Path) -> None:
    """Check that every stored file is the one that its name promises, and that none is half."""
    for file in cache.glob("models--*/blobs/*"):
        data = file.read_bytes()
        git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        assert file.name in (git, hashlib.sha256(data).hexdigest())


def test_a_pushed_model_codes_as_the_run_does(calibrated: Path, hub: Hub, here: Path) -> None:
    assert command("push", f"run={calibrated}", f"repo={REPO}") == 0
    rules = {"target_error": 0.4}
    own, other = (kjcm.load(run, triage=rules, accelerator="cpu") for run in (calibrated, REPO))
    pd.testing.assert_frame_equal(own.code(TASKS), other.code(TASKS))
    np.testing.assert_array_equal(own.probabilities(TASKS), other.probabilities(TASKS))
    assert own.promises == other.promises and other.synthetic
    pd.DataFrame({"workplace": "", "position": "", "task": TASKS}).to_csv("in.csv", index=False)
    for run, output in ((calibrated, "own.csv"), (REPO, "other.csv")):
        assert command("predict", f"run={run}", "input=in.csv", f"output={output}", "accelerator=cpu") == 0
        assert command("triage", f"run={run}", f"out=triage-{output}") == 0
    assert Path("own.csv").read_bytes() == Path("other.csv").read_bytes()
    assert Path("triage-own.csv").read_bytes() == Path("triage-other.csv").read_bytes()
    assert json.loads(Path("other.csv.json").read_text(encoding="utf-8"))["run"] == REPO


def test_a_revision_is_a_branch_or_a_commit(calibrated: Path, hub: Hub, here: Path) -> None:
    made = hub.publish(REPO, calibrated / "model")
    first = made.branches["main"][-1]
    made.add("main", {"README.md": b"", "kjcm.json": b"{}"}, "broken")
    made.branches["v1"] = [first]
    for revision in ("v1", first):
        assert model_folder(f"{REPO}@{revision}").name == first
    with pytest.raises(KjcmError, match=r"kjcm\.json"):
        kjcm.load(REPO)
    with pytest.raises(KjcmError, match="revision"):
        kjcm.load(f"{REPO}@v2")


def test_a_folder_precedes_the_hub(calibrated: Path, hub: Hub, here: Path) -> None:
    shutil.copytree(calibrated / "model", REPO)
    assert model_folder(REPO) == Path(REPO)
    for run in (Path("me/other"), "runs/me/other", "other", "~/x", "me/ㄱ", str(here / "other")):
        with pytest.raises(KjcmError, match="no such folder"):
            kjcm.load(run)
    assert hub.asked == []


def test_a_typing_error_in_a_path_does_not_ask_the_hub(
    calibrated: Path, hub: Hub, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.publish(REPO, calibrated / "model")
    Path(REPO).parent.mkdir()
    words = {"predict": ("input=in.csv", "output=out.csv"), "triage": ()}
    for name, more in words.items():
        assert command(name, f"run={REPO}", *more) == 1
        said = capsys.readouterr().err
        assert f"run={REPO}: no such folder in me." in said and f"{REPO}@main" in said
    assert hub.asked == []
    assert model_folder(f"{REPO}@main").name == hub.repositories[REPO].branches["main"][-1]


def test_int8_writes_nothing_into_the_hubs_cache(calibrated: Path, hub: Hub, here: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    hub.publish(REPO, calibrated / "model")
    model_folder(REPO)
    before = cached_files(here / "cache")
    assert kjcm.load(REPO, accelerator="cpu", precision="int8").code(TASKS)["code_1"].notna().all()
    assert cached_files(here / "cache") == before


@pytest.mark.parametrize("name", ["kjcm.json", "model.safetensors", "triage.safetensors", "README.md"])
@pytest.mark.parametrize("fault", ["drop", "half", 401, 404])
def test_a_failed_download_leaves_no_half_file(
    calibrated: Path, hub: Hub, here: Path, name: str, fault: str | int
) -> None:
    hub.publish(REPO, calibrated / "model")
    hub.faults[name] = fault
    for _ in range(2):
        with pytest.raises(KjcmError, match=REPO) as raised:
            model_folder(REPO)
        assert hub.token not in str(raised.value) and "\n" not in str(raised.value)
        require_whole(here / "cache")
    hub.faults.clear()
    folder = model_folder(REPO)
    require_whole(here / "cache")
    assert cached_files(folder) == cached_files(calibrated / "model")
    assert all(
        (folder / file).read_bytes() == (calibrated / "model" / file).read_bytes() for file in cached_files(folder)
    )


def test_without_the_hub_only_a_complete_copy_is_used(
    calibrated: Path, hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(REPO, calibrated / "model")
    hub.faults["triage.safetensors"] = "drop"
    with pytest.raises(KjcmError):
        model_folder(REPO)
    shutil.rmtree(next((here / "cache").glob("models--*/trees")), ignore_errors=True)  # older libraries have none
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(KjcmError, match=r"README\.md"):
        model_folder(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.faults.clear()
    folder = model_folder(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model_folder(REPO) == folder
    with pytest.raises(KjcmError, match="HF_HUB_OFFLINE"):
        model_folder("me/other")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.stop()
    assert model_folder(REPO) == folder
    with pytest.raises(KjcmError, match="transfer failed"):
        model_folder("me/other")


def test_nothing_is_fetched_but_the_files_of_a_model(calibrated: Path, hub: Hub, here: Path, tmp_path: Path) -> None:
    hub.publish(REPO, calibrated / "model")
    hub.files(REPO).update({"evil.py": b"", "pytorch_model.bin": b"", "a/kjcm.json": b"", "model.onnx": b""})
    assert cached_files(model_folder(REPO)) == cached_files(calibrated / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").write_bytes(b"gigabytes")
    hub.publish("them/other", tmp_path / "other")
    with pytest.raises(KjcmError, match=r"kjcm\.json"):
        model_folder("them/other")
    assert not [one for one in hub.asked if "them/other/resolve" in one]


def test_a_forged_model_is_refused(calibrated: Path, hub: Hub, here: Path) -> None:
    hub.publish(REPO, calibrated / "model")
    hub.files(REPO)["model.safetensors"] += b"\0"
    with pytest.raises(KjcmError, match=r"model\.safetensors"):
        kjcm.load(REPO)


def test_an_ensemble_with_texts(hub: Hub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nearest = "model=nearest augment=titles model.keep_texts=true"
    assert command("train", "model=ensemble", members(SVM, nearest), "model.folds=2", *DATA, "run_dir=run") == 0
    names = cached_files(Path("run/model"))
    assert "members/2-nearest/model/nearest.json" in names and all(map(is_model_file, names))
    of_real_answers(Path("run"))
    assert command("push", "run=run", f"repo={REPO}") == 1 and hub.asked == []
    texts = json.loads(Path("run/model/members/2-nearest/model/nearest.json").read_text(encoding="utf-8"))["texts"]
    said = capsys.readouterr().err
    assert f"{len(texts):,} training texts" in said and not [text for text in texts if text in said]
    assert command("push", "run=run", f"repo={REPO}", "share_text=true") == 0
    assert {*hub.files(REPO)} == {*names, ".gitattributes"}
    pd.testing.assert_frame_equal(kjcm.load(REPO).code(TASKS), kjcm.load("run").code(TASKS))
