"""Checkpoints: whole or not at all, the newest whole one read."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kjcm.errors import KjcmError
from kjcm.training.checkpoints import Checkpoints
from tests.conftest import LEARNS, command


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((100,), float(step)), "best": {"loss": float("inf"), "weights": None}}


def names(store: Checkpoints) -> list[int]:
    return sorted(int(file.name.split("-")[1]) for file in store.folder.iterdir())


def step_of(store: Checkpoints) -> int:
    found = store.newest()
    return 0 if found is None else int(found[1]["step"])


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    assert store.newest() is None
    for step in (5, 10, 200):
        file = store.save(step, state(step))
    assert names(store) == [10, 200] and store.last == file
    found = Checkpoints(store.folder).newest()
    assert found is not None and found[0] == file
    assert found[1]["step"] == 200 and torch.equal(found[1]["weights"], state(200)["weights"])


@pytest.mark.parametrize("how", ["cut", "empty", "one byte", "renamed"])
def test_a_damaged_one_is_passed_over_and_goes_at_the_next_save(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Checkpoints(tmp_path)
    store.save(10, state(10))
    newest = store.save(20, state(20))
    data = bytearray(newest.read_bytes())
    if how == "one byte":
        data[len(data) // 2] ^= 1
    newest.write_bytes(data[: {"cut": 500, "empty": 0}.get(how, len(data))])
    if how == "renamed":
        newest.rename(tmp_path / f"step-00000030-{newest.name[14:]}")
        assert step_of(store) == 20  # the content counts
        return
    assert step_of(store) == 10
    assert newest.name in caplog.text and "truncated or damaged" in caplog.text
    store.save(15, state(15))  # it went on from step 10
    assert names(store) == [10, 15] and step_of(store) == 15


def test_without_a_whole_one_it_says_so_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, state(step)).write_bytes(b"")
    assert store.newest() is None and "NO CHECKPOINT IS INTACT" in caplog.text
    store.save(1, state(1))
    assert names(store) == [1] and step_of(store) == 1


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    import pickle

    from kjcm.files import digest

    class Bad:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    file = tmp_path / "x.ckpt"
    file.write_bytes(pickle.dumps(Bad()))
    file.rename(tmp_path / f"step-00000001-{digest(file)[:16]}.ckpt")
    assert Checkpoints(tmp_path).newest() is None and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_a_full_disk_is_said_and_leaves_the_one_before(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, state(1))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "fsync":
            patch.setattr("os.fsync", full)
        else:
            patch.setattr("torch.save", full)
        with pytest.raises(KjcmError, match=r"(?s)step 2 cannot be written.*No space left.*Make room.*resumes"):
            store.save(2, state(2))
    assert names(store) == [1] and step_of(store) == 1


def test_a_really_full_disk(tmp_path: Path) -> None:
    """What torch makes of the system's refusal: /dev/full refuses every byte."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    store = Checkpoints(tmp_path)
    (tmp_path / ".saving").symlink_to(full)
    with pytest.raises(KjcmError, match="cannot be written"):
        store.save(2, {"weights": torch.zeros(10**6)})
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_removes_what_a_kill_after_done_left(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    left = [run / "checkpoints" / name for name in ("step-00000001-0123456789abcdef.ckpt", ".saving")]
    left[0].parent.mkdir(exist_ok=True)
    for file in left:
        file.touch()
    assert command("train", *LEARNS, "experiment=k_jcm", f"run_dir={run}", "trainer.keep_checkpoints=true") == 0
    assert all(file.exists() for file in left)
    assert command("train", *LEARNS, "experiment=k_jcm", f"run_dir={run}") == 0
    assert not any(file.exists() for file in left)
