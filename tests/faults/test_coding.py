"""`kjcm predict`, `evaluate`, `export` and `prepare` that are really killed, stopped, or run out of disk or of a reader."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from kjcm.files import UNFINISHED
from kjcm.records import read_json
from tests.conftest import ROOT

pytestmark = pytest.mark.fault

KILLS = 3
ROWS = 3000
EXACT = ("accelerator=cpu", "precision=32-true", "chunk_rows=50")
ELSEWHERE = """
from kjcm.run_folder import lease
lease.machine = lambda: "another machine"
lease.SILENCE = 3.0
from kjcm.cli import main
main()
"""
HERE = "from kjcm.cli import main; main()"


def started(words: Sequence[str], cwd: Path, script: str = HERE, **options: object) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", script, *words],
        **{
            "cwd": cwd, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "env": {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, **options,
        },
    )  # fmt: skip


def ended(words: Sequence[str], cwd: Path, **options: object) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it said on stderr."""
    child = started(words, cwd, **options)  # type: ignore[arg-type]
    said = child.communicate(timeout=300)[1] or ""
    assert "Traceback" not in said and "Exception ignored" not in said, said
    return child.returncode, said


def input_of(folder: Path) -> Path:
    """Write a file of different texts."""
    file = folder / "in.csv"
    tasks = [f"{task} {n}" for n in range(ROWS // 3) for task in ("용접", "벼농사", "머리 손질")]
    pd.DataFrame({"n": range(ROWS), "workplace": "", "position": "", "task": tasks}).to_csv(file, index=False)
    return file


def parts(folder: Path, output: str) -> int:
    """Return how many chunks are kept."""
    return len(list(folder.glob(f".{output}.parts/[0-9]*.npz")))


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 120
    while not condition():
        assert child.poll() is None and time.monotonic() < end, child.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "sav", "dta"])
def test_a_killed_coding_ends_with_the_same_rows(kind: str, finished: Path, tmp_path: Path) -> None:
    """Kills come while parts are written and while the output is."""
    source, chance = input_of(tmp_path), random.Random(kind)
    words = ["predict", f"run={finished}", f"input={source}", *EXACT]
    assert ended([*words, f"output=whole.{kind}"], tmp_path)[0] == 0
    output = tmp_path / f"out.{kind}"
    for kill in range(KILLS):
        child = started([*words, f"output={output}"], tmp_path)
        wait_for(lambda done=kill * ROWS // 50 // KILLS: parts(tmp_path, output.name) > done, child)  # type: ignore[misc]
        time.sleep(chance.random() * 0.1)
        child.kill()
        child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -9 and not output.exists() and not output.with_name(f"{output.name}.json").exists()
    code, said = ended([*words, f"output={output}", "overwrite=true"], tmp_path)
    assert code == 0, said
    if kind == "xlsx":  # it has its time in it
        pd.testing.assert_frame_equal(pd.read_excel(output), pd.read_excel(tmp_path / "whole.xlsx"))
    elif kind == "sav":  # and this too
        pd.testing.assert_frame_equal(pd.read_spss(output), pd.read_spss(tmp_path / "whole.sav"))
    else:
        assert output.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert not list(tmp_path.glob(".*")) and read_json(output.with_name(f"{output.name}.json"))["rows"] == ROWS


def test_a_stopped_coding_leaves_the_file_to_who_took_it_over(finished: Path, tmp_path: Path) -> None:
    """The process that takes over is of another machine, for which silence is all that tells."""
    words = ["predict", f"run={finished}", f"input={input_of(tmp_path)}", "output=out.csv", *EXACT]
    first = started(words, tmp_path)
    wait_for(lambda: parts(tmp_path, "out.csv") > 5, first)
    first.send_signal(signal.SIGSTOP)
    second = started(words, tmp_path, ELSEWHERE)
    before = parts(tmp_path, "out.csv")
    wait_for(lambda: parts(tmp_path, "out.csv") > before + 3, second)
    first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1 and "another process" in said and "Traceback" not in said, said
    said = second.communicate(timeout=300)[1]
    assert second.returncode == 0, said
    assert pd.read_csv(tmp_path / "out.csv")["n"].tolist() == list(range(ROWS))
    assert not (tmp_path / ".out.csv.parts").exists()
    assert ended([*words[:3], "output=whole.csv", *EXACT], tmp_path)[0] == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_parts_that_are_removed_under_way_are_an_error(finished: Path, tmp_path: Path) -> None:
    words = ["predict", f"run={finished}", f"input={input_of(tmp_path)}", "output=out.csv", *EXACT]
    child = started(words, tmp_path)
    wait_for(lambda: parts(tmp_path, "out.csv") > 5, child)
    (tmp_path / ".out.csv.parts").rename(tmp_path / "gone")
    said = child.communicate(timeout=120)[1]
    assert child.returncode == 1 and "was removed" in said and "Traceback" not in said, said
    assert not list(tmp_path.glob("out.csv*"))
    assert ended(words, tmp_path)[0] == 0 and len(pd.read_csv(tmp_path / "out.csv")) == ROWS


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        options = ["-t", "tmpfs", "-o", "size=1m"]
        subprocess.run(["mount", *options, "kjcm", str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "sav", "dta"])
def test_a_full_disk_is_one_line_and_with_room_it_goes_on(
    kind: str, finished: Path, tmp_path: Path, disk: Path
) -> None:
    words = ["predict", f"run={finished}", f"input={input_of(tmp_path)}", f"output=disk/out.{kind}", *EXACT]
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2**20 - 500_000 if kind in ("csv", "dta", "sav") else 2**20 - 330_000))
    # torch makes a folder of its own where it may
    places = {"TMPDIR": str(disk), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    code, said = ended(words, tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **places})
    assert code == 1 and "space" in said and len(said.strip().splitlines()[-1:]) == 1, said
    assert not (disk / f"out.{kind}").exists() and not (disk / f"out.{kind}.json").exists()
    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    code, said = ended(words, tmp_path)
    assert code == 0, said
    assert sorted(file.name for file in disk.iterdir()) == ["ballast", f"out.{kind}", f"out.{kind}.json"]


def test_a_reader_that_goes_away_costs_nothing(finished: Path, tmp_path: Path) -> None:
    words = ["predict", f"run={finished}", f"input={input_of(tmp_path)}", "output=out.csv", *EXACT]
    child = started(words, tmp_path)
    assert child.stdout
    child.stdout.close()
    said = child.stderr.read() if child.stderr else ""
    child.wait(timeout=300)
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert len(pd.read_csv(tmp_path / "out.csv")) == ROWS and (tmp_path / "out.csv.json").is_file()


def names_in(folder: Path) -> list[str]:
    """Return the paths of all files and folders in a folder."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


@pytest.mark.parametrize("command", ["evaluate", "export", "prepare"])
def test_other_commands_that_are_killed_are_run_again(command: str, finished: Path, tmp_path: Path) -> None:
    """Nothing half-written is left, and the same command does what an undisturbed one does."""
    words = {
        "evaluate": lambda out: ["evaluate", f"run={finished}", f"out={out}"],
        "export": lambda out: ["export", f"run={finished}", f"out={out}"],
        "prepare": lambda out: ["prepare", "data.scale=0.05", f"out={out}"],
    }[command]
    begin = time.monotonic()
    code, said = ended(words("whole"), tmp_path)
    assert code == 0, said
    spent, chance = time.monotonic() - begin, random.Random(command)
    wanted, made = tmp_path / "whole", tmp_path / "out"
    names = names_in(wanted)
    for kill in range(KILLS):
        child = started(words("out"), tmp_path)
        time.sleep(spent * (0.5 + 0.5 * chance.random()) if kill else spent * 0.9)
        child.kill()
        child.communicate()
        finished_before = child.returncode == 0 or (command != "evaluate" and not (made / UNFINISHED).exists())
        if made.exists() and finished_before:  # the next export or prepare does not replace it unasked
            assert names_in(made) == names
            shutil.rmtree(made)
    code, said = ended(words("out"), tmp_path)
    assert code == 0, said
    assert names_in(made) == names
    for name in names:
        if name.endswith((".parquet", ".safetensors", ".onnx", ".txt")):
            assert (made / name).read_bytes() == (wanted / name).read_bytes(), name
