"""`kjcm wandb sync`: every offline run is sent once and whole, whatever breaks on the way."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from kjcm.run_folder.lease import leased
from kjcm.wandb_project.folders import is_sent, offline_files, sending, synced
from kjcm.wandb_project.sync import _brief
from tests.conftest import SMALL, command
from tests.tracking.offline import read
from tests.tracking.test_online import before_measuring
from tests.tracking.wandb_server import Server

Out = pytest.CaptureFixture[str]


def by_step(points: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {point["_step"]: {key: value for key, value in point.items() if key[0] != "_"} for point in points}


def require_whole(server: Server, files: list[Path]) -> None:
    """Compare what the server has with what the files have."""
    for file in files:
        stored = read(file)
        steps = by_step(server.points[stored.run.run_id])
        assert sorted(steps) == list(range(len(stored.history)))
        assert [set(point) for point in steps.values()] == [
            {key for key in point if key[0] != "_"} for point in stored.history
        ]
        assert server.exits[stored.run.run_id] == stored.exit_code == 0 and is_sent(file)


def test_every_offline_run_is_sent_once(server: Server, runs: Path, capfd: Out) -> None:
    files = offline_files(runs)
    assert command("wandb", "sync", "dry_run=true") == 0
    assert not server.asked and capfd.readouterr().out.count("would send") == 2
    assert command("wandb", "sync") == 0
    assert "2 sent, 0 not sent" in capfd.readouterr().out
    require_whole(server, files)
    asked = len(server.asked)
    assert command("wandb", "sync") == 0
    assert "0 sent, 0 not sent; skipped: 2 sent before" in capfd.readouterr().out and len(server.asked) == asked


@pytest.mark.parametrize(("status", "fails"), [(500, "file_stream"), (403, "upload")])
def test_a_break_is_named_and_the_same_command_resumes(
    server: Server, runs: Path, capfd: Out, status: int, fails: str
) -> None:
    """`wandb sync` itself would call these runs synced."""
    files = offline_files(runs)
    first = str(files[0].stem.removeprefix("run-"))
    server.status, server.fails = status, f"{first}.*{fails}" if fails == "file_stream" else fails
    assert command("wandb", "sync", "retries=1") == 1
    out, error = capfd.readouterr()
    assert str(files[0].parent) in error and str(status) in error and "Traceback" not in out + error
    assert not is_sent(files[0]) and not synced(files[0]).exists() and not sending(files[0]).exists()
    server.status = 200
    assert command("wandb", "sync") == 0
    assert ("1 sent" if fails == "file_stream" else "2 sent") in capfd.readouterr().out
    require_whole(server, files)


def test_a_run_that_a_killed_sync_was_sending_is_sent_again(server: Server, runs: Path, capfd: Out) -> None:
    done, killed = offline_files(runs)
    synced(done).touch()
    synced(killed).touch()
    sending(killed).touch()
    assert command("wandb", "sync") == 0
    assert "1 sent, 0 not sent; skipped: 1 sent before" in capfd.readouterr().out
    assert len(server.runs) == 1 and is_sent(killed)


def test_a_run_in_progress_is_left_alone(server: Server, runs: Path, capfd: Out) -> None:
    shutil.rmtree(sorted(runs.iterdir())[1])
    (run,) = runs.iterdir()
    (run / "DONE").unlink()
    with leased(run):
        assert command("wandb", "sync") == 0
    assert "skipped: 1 still running" in capfd.readouterr().out and not server.asked


def test_the_parts_of_a_resumed_run_are_sent_in_order(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Out
) -> None:
    def stop() -> None:
        raise MemoryError

    before_measuring(monkeypatch, stop)
    words = (*SMALL, "trainer.max_epochs=1", "logger=wandb", "logger.wandb.mode=offline", "run_dir=runs/run")
    assert command("train", *words) == 1 and command("train", *words) == 0
    files = offline_files(here / "runs")
    assert len(files) == 2 and files == sorted(files, key=lambda file: file.parent.name)
    server.status, server.fails = 500, "file_stream"
    assert command("wandb", "sync", "retries=1") == 1
    assert "an earlier part of the run is not sent" in capfd.readouterr().err and not any(map(is_sent, files))
    server.status = 200
    assert command("wandb", "sync") == 0
    (points,) = server.points.values()
    assert all(map(is_sent, files)) and list(server.exits.values()) == [0]
    assert sorted(by_step(points)) == list(range(sum(len(read(file).history) for file in files)))


def test_nothing_to_send_and_no_key_are_named(
    server: Server, runs: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Out
) -> None:
    (here / "empty").mkdir()
    for words, code, said in (
        (("runs=nowhere",), 1, "no such folder"),
        (("runs=empty",), 1, "no offline W&B run"),
        (("project=a/b",), 2, "project=a/b"),
    ):
        assert command("wandb", "sync", *words) == code and said in capfd.readouterr().err
    server.status = 401
    assert command("wandb", "sync") == 1 and server.address in capfd.readouterr().err
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.delenv("WANDB_API_KEY")
    assert command("wandb", "sync") == 1 and "wandb login" in capfd.readouterr().err
    assert not server.runs and not any(map(is_sent, offline_files(runs)))


def test_a_signed_address_is_not_printed() -> None:
    assert _brief("PUT https://x/y?sig=abc giving up\nmore") == "PUT https://x/y giving up; more"


def test_another_sync_is_not_disturbed(server: Server, runs: Path, capfd: Out) -> None:
    from filelock import FileLock

    with FileLock(runs / ".wandb-sync.lock"):
        assert command("wandb", "sync") == 1
    assert "another `kjcm wandb sync`" in capfd.readouterr().err and not server.asked
