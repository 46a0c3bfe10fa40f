"""Runs as a table: what a column may be called, and which columns a narrow screen keeps."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.errors import ConfigError
from kjcm.run_folder.listing import column_of, frame_of, key_of, ordered, over_seeds, validated
from kjcm.run_folder.states import Entry
from kjcm.run_folder.terminal import _fitting, show


def entry(number: int, **more: Any) -> Entry:
    lr, seed = (1e-3, 3e-3)[number % 2], number // 2
    return Entry(
        Path(f"runs/k_jcm/{number:016x}"), "finished", "", "k_jcm",
        given={"optim.lr": str(lr), "seed": str(seed), "data.batch_size": "16"},
        config={"name": "k_jcm", "optim": {"lr": lr}, "model": {"lr": 1, "dim": 32}, "data": {"batch_size": 16}, "seed": seed},
        metrics={"accuracy": 0.5 + number / 100, "f1_weighted": 0.9 - number / 100, "f1_macro": 0.1 + number / 100,
                 "top_5_accuracy": 0.7, "validation_loss": 3.0, "validation_f1_weighted": 0.1 + number / 50, **more},
        seconds=3.0,
    )  # fmt: skip


ENTRIES = [entry(number) for number in range(4)]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("lr", "optim.lr"), ("optim.lr", "optim.lr"), ("macro F1", "f1_macro"), ("F1", "f1_weighted"), ("test F1", "f1_weighted"),
        ("val F1", "validation_f1_weighted"), ("validation F1", "validation_f1_weighted"), ("val loss", "validation_loss"),
        ("Top-5", "top_5_accuracy"), ("TOP_5_ACCURACY", "top_5_accuracy"), ("seconds", "seconds"), ("folder", "folder"),
        ("batch size", "data.batch_size"), ("seed", "seed"),
    ],
)  # fmt: skip
def test_headings_name_columns(name: str, column: str) -> None:
    frame = frame_of(ENTRIES)
    assert column_of(frame, name) == column and key_of(name, ENTRIES) in (column, name)
    assert len(ordered(frame, name)) == 4
    if column.startswith(("f1", "validation")):
        assert column_of(over_seeds(ENTRIES), name) == f"{column}_mean"


def test_a_heading_of_several_keys_names_them() -> None:
    others = [Entry(Path("a"), "finished", "", config={"optim": {"lr": 1}, "model": {"lr": 2}})]
    with pytest.raises(ConfigError, match=r"model\.lr or optim\.lr"):
        key_of("lr", others)
    assert column_of(frame_of(ENTRIES), "nothing") is None and key_of("nothing", ENTRIES) == "nothing"


@pytest.mark.parametrize("width", [60, 80, 160])
def test_columns_that_tell_runs_apart_stay(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    show(frame_of(ENTRIES), "4 runs")
    said = capsys.readouterr().out
    assert all(heading in said for heading in ("lr", "seed")) and "batch_size" not in said
    assert "0.001" in said and "0.003" in said and "val F1" in said
    assert ("test F1" in said.partition("no room")[0]) == (width > 60)


def test_the_metrics_that_most_runs_have_stay_and_no_room_is_left_unused() -> None:
    cells = pd.DataFrame(
        {
            "seed": ["0", "1"], "accuracy": ["0.5000", "0.6000"], "f1_weighted": ["0.5000", "0.6000"],
            "validation_f1_weighted": ["", "0.4000"], "folder": ["/a/run/folder/of/some/length"] * 2,
        }
    )  # fmt: skip
    cells.attrs["metrics"] = ["accuracy", "f1_weighted", "validation_f1_weighted"]
    wide = {"seed": 7, "f1_weighted": 10, "accuracy": 16, "validation_f1_weighted": 9, "folder": 27}
    for columns in (
        ["seed", "f1_weighted"],
        ["seed", "f1_weighted", "validation_f1_weighted"],
        ["seed", "accuracy", "f1_weighted"],
    ):
        shown, left_out = _fitting(cells, sum(wide[name] for name in columns) + 1, ())
        assert list(shown.columns) == columns and sorted(left_out) == sorted({*cells.columns} - {*columns})


def test_a_sweep_is_sorted_by_validation_rows_alone() -> None:
    assert validated(frame_of(ENTRIES)) == "validation_f1_weighted"
    best = ordered(frame_of(ENTRIES), "validation_f1_weighted")
    assert best["validation_f1_weighted"].is_monotonic_decreasing and best.index[0] == 3
    plain = [Entry(Path("a"), "finished", "", metrics={"accuracy": 0.5})]
    assert validated(frame_of(plain)) is None
