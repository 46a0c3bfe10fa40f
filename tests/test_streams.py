"""What is printed may get lost; the work, its files and its exit code may not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.conftest import ROOT, Run


def run_into(stdout: int, folder: Path, *words: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is an open file descriptor."""
    command = [sys.executable, "-m", "kjcm", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return forking.run(command, 600, cwd=folder, env=env, stdout=stdout, stderr=stderr)


@pytest.fixture
def unread() -> int:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_closed_pipe_ends_help_quietly_and_finished_work_with_0(unread: int, tmp_path: Path) -> None:
    for words in (("-h",), ("train", "-h"), ("prepare", "data.scale=0.02", "out=o")):
        done = run_into(unread, tmp_path, *words)
        assert (done.returncode, done.stderr) == (0, ""), words
    assert (tmp_path / "o" / "cohort.json").is_file()


def test_an_error_keeps_its_exit_code_though_nobody_reads_it(unread: int, tmp_path: Path) -> None:
    assert run_into(unread, tmp_path, "prepare", "data=table", "data.path=none.csv", stderr=unread).returncode == 1


def test_a_full_device_is_reported_once_and_fails_no_work(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run_into(full.fileno(), tmp_path, "prepare", "data.scale=0.02", "out=o")
    assert done.returncode == 0 and (tmp_path / "o" / "cohort.json").is_file()
    assert len(done.stderr.splitlines()) == 1 and "could not be printed" in done.stderr


def test_hangul_works_in_a_locale_without_it(kjcm: Run, tmp_path: Path) -> None:
    done = kjcm("prepare", "data.scale=0.02", "out=결과", env={"LC_ALL": "C", "PYTHONUTF8": "0"}, fresh=True)
    assert "cohort in 결과" in done.stdout and (tmp_path / "결과" / "cohort.json").is_file()
