"""`kjcm predict engine=ray`: the output is that of one process, also after a kill, and errors name what is wrong."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kjcm.coding.parts import parts_of
from kjcm.errors import WorkerError
from kjcm.records import read_json
from tests.coding.test_shards import rows, words_for  # noqa: F401
from tests.conftest import ROOT, command

pytest.importorskip("ray.data.checkpoint", reason="Ray is not installed: pip install 'kjcm[ray]'")
SECONDS = 900


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's folder, with a short name, which its sockets need; all of Ray's processes have to end."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    yield folder
    await_end(folder)
    shutil.rmtree(folder)


def await_end(folder: Path) -> None:
    """Wait until no process uses Ray's folder."""
    end = time.monotonic() + SECONDS
    while left := processes_of(folder):
        assert time.monotonic() < end, left
        time.sleep(0.5)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that use a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # the process has ended
            continue
        found += [line] if str(folder) in line else []
    return found


def program(folder: Path, *words: str) -> "subprocess.Popen[str]":
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(folder),
        "RAY_worker_niceness": "0",
        "KILLED": str(folder / "killed"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_a_worker_is_killed_and_the_output_is_that_of_one_process(
    finished: Path,
    rows: object,  # noqa: F811
    here: Path,
    ray_folder: Path,
) -> None:
    words = words_for(finished, "triage.managers=words", "levels=[1]")
    assert command(*words, "output=one.csv") == 0
    process = program(ray_folder, "tests.prediction.dying", "Dies", *words, "output=out.csv", "engine=ray")
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert (ray_folder / "killed").exists()
    assert Path("out.csv").read_bytes() == Path("one.csv").read_bytes()
    one, out = (read_json(Path(f"{name}.csv.json")) for name in ("one", "out"))
    for key in ("rows", "rows_resumed", "decisions", "triage", "made_by"):
        assert out[key] == one[key], key
    assert not list(here.glob(".out*"))
    logs = [file for file in ray_folder.rglob("logs/**/*") if file.is_file()]
    assert logs
    for text in ("벼농사", "용접"):
        assert text not in said
        assert not [file for file in logs if text.encode() in file.read_bytes()]


def checkpoint_in(folder: Path) -> list[Path]:
    """Return the files of Ray's checkpoint of the coding in a folder."""
    from kjcm.prediction.cluster import _checkpoint

    return [file for stored in folder.glob(".*.parts/ray-*") for file in _checkpoint(stored)]


@pytest.mark.slow
def test_a_chunk_that_kills_every_worker_ends_the_command(
    finished: Path,
    rows: object,  # noqa: F811
    here: Path,
    ray_folder: Path,
) -> None:
    words = words_for(finished, "output=out.csv", "engine=ray")
    process = program(ray_folder, "tests.prediction.dying", "DiesAlways", *words)
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "Ray failed" in said and "Run the same command again" in said, said
    assert not Path("out.csv").exists() and checkpoint_in(here)


@pytest.mark.slow
def test_after_a_kill_of_the_driver_the_same_command_resumes(
    finished: Path,
    rows: object,  # noqa: F811
    here: Path,
    ray_folder: Path,
) -> None:
    from kjcm.prediction.cluster import _numbers
    from tests.prediction.dying import CHUNK

    words = words_for(finished)
    assert command(*words, "output=one.parquet") == 0
    words = (*words, "output=out.parquet", "engine=ray")
    process = program(ray_folder, "tests.prediction.dying", "Waits", *words)
    end = time.monotonic() + SECONDS
    while not checkpoint_in(here):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)
    process.kill()
    process.communicate()
    await_end(ray_folder)
    chunks = sum(len(_numbers(file)) for file in checkpoint_in(here))
    assert not Path("out.parquet").exists()
    again = program(ray_folder, "kjcm", *words)
    said, _ = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, said
    assert Path("out.parquet").read_bytes() == Path("one.parquet").read_bytes()
    record = read_json(Path("out.parquet.json"))
    assert record["rows"] == 60 and record["rows_resumed"] == 7 * chunks
    assert 1 <= chunks <= CHUNK


def test_what_does_not_fit_is_refused(
    finished: Path,
    rows: object,  # noqa: F811
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = words_for(finished, "output=out.csv")
    assert command(*words, "engine=fast") == 2 and "ray.engine=fast" in capfd.readouterr().err
    assert command(*words, "ray.workers=4") == 2 and "engine=ray" in capfd.readouterr().err
    assert command(*words, "engine=ray", "shard=1/2") == 2 and "shard" in capfd.readouterr().err
    assert command(*words, "engine=ray", "merge=2") == 2
    assert command(*words, "engine=ray", "accelerator=gpu") == 2 and "precision=bf16" in capfd.readouterr().err
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command(*words, "engine=ray", "accelerator=gpu", "precision=bf16") == 2
    assert "no GPU here" in capfd.readouterr().err
    assert command(*words, "engine=ray", "ray.workers=0") == 2
    assert command(*words, "engine=ray", "ray.address=head") == 2 and "HOST:6379" in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert command(*words, "engine=ray", f"ray.address={address}") == 1 and address in capfd.readouterr().err
    assert [file.name for file in here.iterdir()] == ["in.csv"]
    Path("out.csv").write_text("mine")
    assert command(*words, "engine=ray") == 1 and "out.csv exists" in capfd.readouterr().err
    assert Path("out.csv").read_text() == "mine"
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "kjcm.prediction.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert command(*words, "engine=ray", "output=other.csv") == 2
    assert "pip install 'kjcm[ray]'" in capfd.readouterr().err


def test_a_worker_names_the_folder_that_it_lacks(here: Path) -> None:
    import pyarrow as pa
    import ray

    from kjcm.prediction import cluster

    worker = cluster._Worker(None, here / "run", None, None)  # type: ignore[arg-type]
    with pytest.raises(WorkerError, match=f"{here / 'run'}.*shared disk") as raised:
        worker(pa.table({cluster.ID: [0], "rows": [1], "texts": [b""]}))
    of_ray = ray.exceptions.RayTaskError("code", "벼농사", raised.value).as_instanceof_cause()
    assert cluster.kjcm_error(of_ray) is raised.value
    assert "벼농사" not in str(cluster.kjcm_error(RuntimeError("벼농사")))


def test_a_worker_tells_no_text() -> None:
    import pickle

    import pyarrow as pa

    from kjcm.prediction import cluster

    class Fails:
        def ready(self, texts: list[str]) -> None:
            raise ValueError(f"cannot read {texts[0]}")

    worker = cluster._Worker.__new__(cluster._Worker)
    worker.failure, worker.coder, worker.decider = "", Fails(), SimpleNamespace(explainer=None)  # type: ignore[assignment]
    texts = pickle.dumps((["벼농사"], None))
    with pytest.raises(WorkerError, match="ValueError") as raised:
        worker(pa.table({cluster.ID: [0], "rows": [1], "texts": [texts]}))
    assert "벼농사" not in str(raised.value) and raised.value.__suppress_context__


def test_a_damaged_chunk_is_named_and_forgotten(here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from kjcm.errors import DiskError
    from kjcm.prediction.cluster import ID, RayChunks

    (here / "checkpoint").mkdir()
    for number in (3, 4):
        pq.write_table(pa.table({ID: [number]}), here / "checkpoint" / f"{number}.parquet")
    for name in ("4.parquet", "coded"):
        (here / name).write_bytes(b"damaged")
    with pytest.raises(DiskError, match="chunk 4"):
        RayChunks(here, {4: here / "4.parquet"}, 0).read(4, 1)
    assert [file.name for file in (here / "checkpoint").iterdir()] == ["3.parquet"]
    assert [file.name for file in here.iterdir()] == ["checkpoint"]


@pytest.fixture
def stored(here: Path) -> Path:
    """Ray's folder with the chunks 0 and 1, of two rows each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("rows", "checkpoint"):
        (here / name).mkdir()
        for number in range(2):
            pq.write_table(pa.table({"chunk": [number], "rows": [2]}), here / name / f"{number}.parquet")
    (here / "coded").touch()
    return here


def test_when_all_is_coded_ray_does_not_start(stored: Path) -> None:
    from kjcm.prediction.cluster import code_on_ray

    parts = SimpleNamespace(ray=stored, target=stored / "out.csv")
    found = code_on_ray(None, None, parts)  # type: ignore[arg-type]
    assert found.rows_resumed == 4
    assert found.files == {number: stored / "rows" / f"{number}.parquet" for number in range(2)}


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"damaged")])
def test_missing_and_damaged_chunks_are_coded_again(stored: Path, damage: Callable[[Path], object]) -> None:
    from kjcm.prediction.cluster import _checkpoint, _resumed

    assert _resumed(stored) == {0, 1} and (stored / "coded").exists()
    damage(stored / "rows" / "1.parquet")
    assert _resumed(stored) == {0} and not (stored / "coded").exists()
    assert [file.name for file in _checkpoint(stored)] == ["0.parquet"]


def test_room_is_counted_on_each_machine(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import ray

    from kjcm.keys.coding import RayConfig
    from kjcm.prediction.cluster import _require_room

    machines = [{"Alive": True, "Resources": {"CPU": 4.0}}] * 2 + [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: machines)
    monkeypatch.setattr(logging.getLogger("kjcm"), "propagate", True)

    def logged(address: str, workers: int, cpus: int, *, gpu: bool) -> str:
        caplog.clear()
        _require_room(RayConfig("ray", address, workers, cpus), gpu=gpu)
        return caplog.text

    assert not logged("auto", 3, 4, gpu=False)
    assert "room for 3" in logged("auto", 4, 3, gpu=False)
    assert "room for 0" in logged("auto", 1, 8, gpu=False)
    assert "room for 1" in logged("auto", 2, 4, gpu=True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert not logged("local", 2, 1, gpu=False)
    assert "2 cores" in logged("local", 3, 1, gpu=False)
    with pytest.raises(WorkerError, match=r"ray\.workers=2.* has 1\."):
        logged("local", 2, 1, gpu=True)


def test_other_keys_get_their_own_folder_of_ray(here: Path) -> None:
    target = here / "out.csv"
    with pytest.raises(WorkerError), parts_of(target, {"top_k": 5}, False) as parts:
        old = parts.ray / "checkpoint" / "0.parquet"
        old.parent.mkdir(parents=True)
        old.touch()
        raise WorkerError("Ray failed.")
    with pytest.raises(WorkerError), parts_of(target, {"top_k": 5}, False) as parts:
        assert old.is_relative_to(parts.ray) and old.exists()
        raise WorkerError("Ray failed.")
    with parts_of(target, {"top_k": 1}, True) as parts:
        assert not old.exists() and not old.is_relative_to(parts.ray)
