"""Damaged records: a command ends with a line that names the file, or does without it; none hangs or shows a traceback."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.records import MOST, Count, faults, read_bytes, read_frame, read_json, read_yaml
from kjcm.run_folder.states import entry_of
from tests.conftest import command
from tests.reviews import begin_review
from tests.run_folder.damaging import BOMB, RECORDS, attempt, fuzz, sparse


@pytest.fixture(scope="session")
def whole(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, a file to code, and one that was coded, whose review has begun; tests copy it."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(calibrated, folder / "run")
    rows = {"n": range(4), "workplace": "회사", "position": "", "task": ["예금 상담", "택시 운전", "용접", "벼농사"]}
    pd.DataFrame(rows).to_csv(folder / "input.csv", index=False)
    words = (f"run={folder / 'run'}", f"input={folder / 'input.csv'}", f"output={folder / 'coded.csv'}")
    assert command("predict", *words, "accelerator=cpu") == 0
    begin_review(folder / "run", folder / "coded.csv")
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(whole, tmp_path / "whole")
    return tmp_path / "whole" / "run"


def test_mutated_records_end_in_a_line(whole: Path, tmp_path: Path) -> None:
    assert fuzz(whole, tmp_path, cases=len(RECORDS), seed=0) == []


@pytest.mark.parametrize("name", ["config.yaml", "identity.json", "report.json", "hydra/overrides.yaml"])
def test_runs_shows_a_damaged_run_as_damaged_and_goes_on(
    run: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(run, run.with_name("other"))
    (run / name).write_text("null")
    assert command("runs", f"runs={run.parent}", f"out={run.parent / 'runs.csv'}") == 0
    table = pd.read_csv(run.parent / "runs.csv")
    assert sorted(table["state"]) == ["damaged", "finished"]
    assert str(run / name) in capfd.readouterr().out.replace("\n", "")
    entry = entry_of(run)
    assert entry.state == "damaged" and str(run / name) in entry.reason


@pytest.mark.parametrize(
    "path", ["/usr", "/etc/passwd", "/dev/zero", "~nobody-of-this-name/x.csv", "pipe.csv", "a" * 5000]
)
def test_evaluate_reads_only_tables_that_a_config_names(run: Path, path: str) -> None:
    os.mkfifo(run.parent / "pipe.csv")
    config = (run / "config.yaml").read_text()
    given = f"path: {run.parent / path}" if path == "pipe.csv" else f"path: {path}"
    head, _, rest = config.partition("classification:")
    (run / "config.yaml").write_text(head + "classification:" + rest.replace("path: null", given, 1))
    code, shown = attempt(["evaluate", f"run={run}", "trainer=cpu"])
    assert code == 1 and str(run / "config.yaml") in shown and "classification.path" in shown


def test_files_that_are_not_regular_or_too_large_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "record"
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name), sparse, lambda path: None):
        make(file)
        for reader in (read_json, read_yaml, read_bytes, read_frame):
            with pytest.raises(KjcmError, match=str(file)):
                reader(file)
        if os.path.lexists(file):
            file.rmdir() if file.is_dir() else file.unlink()
    file.write_bytes(b"x" * 9)
    assert read_bytes(file, 9) == b"x" * 9
    with pytest.raises(KjcmError):
        read_bytes(file, 8)
    assert MOST < 2**31


@pytest.mark.parametrize(
    "text",
    ["a: [", BOMB, "a: &x 1\nb: *x", "a: 2020-99-99", "a: 2020-01-01", "? [a]\n: 1", "a: .nan", "{1: 2, a: 3}", "!!set {a}",
     "a: " + "[" * 5000, "\xff", "a: " + "9" * 5000, "!!python/name:os.system"],
)  # fmt: skip
def test_yaml_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(KjcmError, match=str(file)):
        read_yaml(file, {"a?": object})


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": 1e400}', '"\\ud800"', "[" * 10**5, "9" * 5000, "\xff"])
def test_json_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "record.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(KjcmError, match=str(file)):
        read_json(file)


@pytest.mark.parametrize(
    "value, shape, is_right",
    [
        (1, int, True), (True, int, False), (2**63, int, False), (-1, Count, False), (0, Count, True), (1, float, True),
        (float("inf"), float, False), ("1", float, False), (None, (str, None), True), (1, (str, None), False),
        ([], [int], True), ([1, "x"], [int], False), ({"a": 1}, {"a": int}, True), ({"b": 1}, {"a": int}, False),
        ({"b": 1}, {"a?": int}, True), ({"a": None}, {"a?": int}, False), ({"x": 1}, {str: int}, True),
        ({"x": ""}, {str: int}, False), ({1: 1}, {str: int}, False), ([], {}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": str}]}, False),
    ],
)  # fmt: skip
def test_shapes(value: Any, shape: Any, is_right: bool) -> None:
    assert (not list(faults(value, shape))) == is_right


def test_a_record_without_its_type_is_named_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"a": [{"b": "한 응답자의 답"}]}))
    with pytest.raises(KjcmError, match=r"a\[0\]\.b is not a whole number") as error:
        read_json(file, {"a": [{"b": int}]})
    assert "응답자" not in str(error.value)


def test_a_table_of_lists_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "predictions.parquet"
    pd.DataFrame({"id": ["1"], "prob_1": [[0.5]]}).to_parquet(file)
    with pytest.raises(KjcmError, match="prob_1"):
        read_frame(file)
