"""A W&B run that is sent, to a stand-in for the server: resumed, cut off on the way, and one whose own process dies."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kjcm.tracking.tracker import Tracker
from kjcm.training import fit
from tests.conftest import SMALL, command
from tests.tracking.wandb_server import PATIENCE, Server, serving

WORDS = ("train", *SMALL, "trainer.max_epochs=1", "logger=wandb", "data.validation=0.1", "run_dir=run")
Out = pytest.CaptureFixture[str]


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(monkeypatch) as found:
        yield found


def before_measuring(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once, when the training is over and the test to come."""
    measure, done = fit.measure, list[bool]()

    def measured(*words: object) -> object:
        if not done:
            done.append(True)
            act()
        return measure(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "measure", measured)


def wait_for_run(server: Server) -> None:
    """Wait until the server has the run: a thread begins it, and may be slower than the training."""
    deadline = time.monotonic() + PATIENCE
    while not server.runs:
        assert time.monotonic() < deadline, f"no run within {PATIENCE} seconds; asked for {server.asked}"
        time.sleep(0.05)


def test_a_run_that_goes_on_is_the_same_run_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: Out
) -> None:
    def stop() -> None:
        wait_for_run(server)
        raise MemoryError

    before_measuring(monkeypatch, stop)
    assert command(*WORDS) == 1
    assert list(server.exits.values()) == [1]
    first = [len(points) for points in server.points.values()]
    assert command(*WORDS) == 0
    assert "W&B:" not in capfd.readouterr().out.replace("W&B: http", "")
    assert list(server.exits.values()) == [0] and list(server.runs) == list(server.points)  # one run
    (points,) = server.points.values()
    assert len(points) > first[0] and [point["_step"] for point in points] == list(range(len(points)))
    kinds = {told.get("artifactTypeName") for told in server.artifacts}
    assert kinds == {"dataset", "model", "run_table"}  # a table is an artifact too
    assert "UseArtifact" in server.asked  # the cohort: the model comes of it


def test_a_connection_lost_on_the_way_holds_nothing_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: Out, here: Path
) -> None:
    finish, seconds = Tracker.finish, list[float]()

    def lose() -> None:
        wait_for_run(server)
        server.stop()

    def timed(tracker: Tracker, code: int) -> None:
        begin = time.monotonic()
        finish(tracker, code)
        seconds.append(time.monotonic() - begin)

    monkeypatch.setattr(Tracker, "finish", timed)  # all else is queued
    before_measuring(monkeypatch, lose)
    assert command(*WORDS, "logger.wandb.wait=5") == 0
    assert len(seconds) == 1 and seconds[0] < 30
    assert (here / "run" / "DONE").is_file()
    said = capfd.readouterr().out
    assert said.count("later: wandb sync") == 1 and "Traceback" not in said


def test_a_run_whose_process_of_wandb_dies_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: Out, here: Path
) -> None:
    def kill() -> None:
        wait_for_run(server)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
                parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if b"wandb-core" in words and parent == str(os.getpid()):
                os.kill(int(process.name), 9)
                return
        raise AssertionError("no process of W&B's")

    before_measuring(monkeypatch, kill)
    assert command(*WORDS) == 0
    said = capfd.readouterr()
    assert said.out.count("The run continues without it") == 1 and "Traceback" not in said.out + said.err
    assert (here / "run" / "DONE").is_file()
    assert command(*WORDS, "seed=1", "run_dir=next") == 0  # the next job has its run
    assert list(server.exits.values())[-1] == 0
