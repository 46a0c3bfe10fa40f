"""The benchmarks end to end: what they compare is the same work. Times are not judged."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from benchmarks.command import reference
from tests import forking
from tests.conftest import FEW_STEPS, ROOT, command

SCHEMA = json.loads((ROOT / "docs" / "schemas" / "bench.schema.json").read_text(encoding="utf-8"))
TRAIN = (*FEW_STEPS, "steps=3", "warmup=2", "repeats=2", "data.batch_size=16", "out=bench")


def found(folder: Path) -> dict[str, Any]:
    """Return bench.json, checked against its schema."""
    record: dict[str, Any] = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    Draft202012Validator(SCHEMA).validate(record)
    assert [file.name for file in folder.iterdir()] == ["bench.json"]
    return record


@pytest.mark.slow
def test_every_loop_learns_the_same_from_the_same_rows(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    assert command("benchmarks.train", *TRAIN) == 0
    record = found(here / "bench")
    assert [one["alternative"] for one in record["comparisons"]] == ["trainer", "trainer_bf16", "lightning"]
    for one in record["comparisons"]:
        agreement = one["agreement"]
        assert agreement["same_rows"] is True
        assert agreement["loss_alternative"] == pytest.approx(agreement["loss_ours"], rel=0.01)
    for side in record["sides"].values():
        assert {(each["rows"], each["steps"]) for each in side["measurements"]} == {(3 * 16, 3)}
        assert len(side["measurements"]) == 2
    assert record["synthetic"] and record["config"]["steps"] == 3
    assert "engine packed" in record["sides"]["kjcm"]["about"]
    assert "kjcm / trainer_bf16" in capfd.readouterr().out
    before = (here / "bench" / "bench.json").read_bytes()
    assert command("benchmarks.train", *TRAIN) == 1  # nothing is overwritten unasked
    assert "overwrite=true" in capfd.readouterr().err and (here / "bench" / "bench.json").read_bytes() == before


def test_mean_pooling_and_whole_blocks(here: Path) -> None:
    """Trainer has no classifier with mean pooling; the captured engine takes blocks of steps."""
    pytest.importorskip("accelerate")
    words = ("model.pooling=mean", "engine=captured", "engine.block=4", "alternatives=[trainer]", "repeats=1")
    assert command("benchmarks.train", *TRAIN, *words, "cutoff=10") == 0
    record = found(here / "bench")
    (one,) = record["comparisons"]
    assert one["agreement"]["same_rows"] is True
    assert one["agreement"]["loss_alternative"] == pytest.approx(one["agreement"]["loss_ours"], rel=0.01)
    assert record["sides"]["kjcm"]["measurements"][0]["steps"] == 4  # 2 and 3 steps are a block of 4 each


@pytest.mark.parametrize(
    ("engine", "steps"), [(("engine=packed",), 3), (("engine=captured", "engine.block=4", "model.pooling=mean"), 4)]
)
def test_a_profile_of_kjcms_own_steps_and_the_least_that_they_could_take(
    here: Path, capfd: pytest.CaptureFixture[str], engine: tuple[str, ...], steps: int
) -> None:
    assert command("benchmarks.train", *TRAIN, *engine, "alternatives=[]", "repeats=1", "profile=true") == 0
    said = capfd.readouterr()
    assert "aten::mm" in said.out and "GFLOP" in said.out and "profiler_start" not in said.err
    profile = found(here / "bench")["profile"]
    shares = {one["name"]: one for one in profile["operations"]}
    assert profile["steps"] == steps and shares["aten::mm"]["calls"] == int(shares["aten::mm"]["calls"]) > 0
    assert 0 < sum(one["milliseconds"] for one in profile["operations"]) < 1.5 * profile["milliseconds_per_step"]
    floor = profile["floor"]
    assert floor["milliseconds_per_step"] == pytest.approx(
        1000 * (floor["flop"] / floor["flop_per_second"] + floor["bytes"] / floor["bytes_per_second"])
    )
    # each weight of a linear layer: 6 operations a text, or a token, forwards and backwards
    of_texts, of_tokens = 3 * 32 * 32 + 2 * 32 * 64 + 32 * 142, 2 * 32 * 32  # the last layer is the only one
    if "model.pooling=mean" in engine:
        of_texts, of_tokens = 32 * 142, 4 * 32 * 32 + 2 * 32 * 64
    assert 6 * 16 * (of_texts + 3 * of_tokens) < floor["flop"] < 6 * 16 * (of_texts + 80 * of_tokens)


def test_rows_in_another_order_are_told() -> None:
    from benchmarks.loops import Learnt, Plan
    from benchmarks.measuring import Measurement
    from benchmarks.train import agreement

    rows = np.array([3, 1, 2, 0])
    plan = Plan(1, 2, rows, np.full(4, 5), 2)
    right = Measurement(1.0, 2, result=Learnt(rows, 1.0))
    other = Measurement(1.0, 2, result=Learnt(np.array([3, 1, 0, 2]), 1.0))
    short = Measurement(1.0, 2, result=Learnt(rows[:3], 1.0))
    assert agreement({"kjcm": [right], "x": [right]}, "x", plan)["same_rows"] is True
    for wrong in (other, short):
        assert agreement({"kjcm": [right, right], "x": [right, wrong]}, "x", plan)["same_rows"] is False
        assert agreement({"kjcm": [wrong], "x": [right]}, "x", plan)["same_rows"] is False


def test_trainer_is_given_the_very_tokens_and_labels_of_the_rows() -> None:
    from benchmarks.loops import OrderedRows
    from kjcm.engine.data import Labelled, TokenData
    from kjcm.text.tokens import Tokens

    tokens = Tokens(np.array([2, 7, 3, 2, 8, 9, 3, 2, 3], np.int32), np.array([0, 3, 7, 9]))
    data = TokenData({"train": Labelled(tokens, np.array([5, 6, 4]))}, pad=1)
    given = OrderedRows(data, np.array([2, 0]))
    assert [given[place] for place in range(len(given))] == [
        {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": 4},
        {"input_ids": [2, 7, 3], "attention_mask": [1, 1, 1], "labels": 5},
    ]
    assert given.asked == [0, 1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["alternatives=[pytorch]"], ["'pytorch'", "trainer_bf16"]),
        (["steps=10000", "alternatives=[lightning]"], ["full batches", "data.scale"]),
        (["trainer.devices=2", "alternatives=[lightning]"], ["trainer.devices=1"]),
        (["repeats=0"], ["repeats=0"]),
        (["warmup=0"], ["warmup=0"]),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: list[str], says: list[str], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("benchmarks.train", *TRAIN, *words) == 2
    error = capfd.readouterr().err
    assert all(text in error for text in says), error
    assert "Traceback" not in error and not (here / "bench").exists()


def test_without_accelerate_the_message_says_how_to_get_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command("benchmarks.train", *TRAIN) == 1
    assert "pip install accelerate" in capfd.readouterr().err


def test_cold_and_warm_give_the_same_tokens(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("benchmarks.prepare", "data.scale=0.02", "repeats=2", "out=bench")
    assert command(*words) == 0
    record = found(here / "bench")
    (one,) = record["comparisons"]
    assert one["agreement"] == {"same_cohort": True, "same_tokens": True}
    assert (one["ours"], one["alternative"]) == ("warm", "cold")
    assert command(*words) == 1
    assert "overwrite=true" in capfd.readouterr().err
    assert command(*words, "overwrite=true") == 0


def test_pipeline_and_coder_give_the_same_codes(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("prepare", "data.scale=0.02", "out=cohort") == 0
    words = (
        "benchmarks.predict",
        "input=cohort/twin/wave6.csv",
        "rows=150",
        "repeats=2",
        "precisions=[bf16]",
        "out=bench",
    )
    assert command(*words, f"run={finished}") == 0
    record = found(here / "bench")
    assert [one["name"] for one in record["comparisons"]] == ["kjcm 32-true / pipeline", "kjcm bf16 / pipeline"]
    exact, half = (one["agreement"] for one in record["comparisons"])
    assert exact["equal_codes_ours"] == exact["equal_codes_alternative"] == 1.0
    assert exact["probability_difference_ours"] == 0.0 and exact["probability_difference_alternative"] < 1e-5
    assert half["equal_codes_ours"] > 0.9 and 0 < half["probability_difference_ours"] < 0.02
    assert list(record["sides"]) == ["kjcm 32-true", "kjcm bf16", "kjcm from tokens", "pipeline"]
    assert {each["rows"] for side in record["sides"].values() for each in side["measurements"]} == {150}
    assert command(*words, f"run={finished}") == 1
    assert "overwrite=true" in capfd.readouterr().err


def test_the_service_gives_every_client_the_same_codes(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    assert command("prepare", "data.scale=0.02", "out=cohort") == 0
    words = ("benchmarks.serve", "input=cohort/twin/wave6.csv", "requests=24", "clients=4", "repeats=2", "out=bench")
    assert command(*words, f"run={calibrated}", "precision=32-true", "accelerator=cpu") == 0
    record = found(here / "bench")
    assert list(record["sides"]) == ["4 clients", "4 clients, unbatched", "one at a time"]
    assert [one["name"] for one in record["comparisons"]] == [
        "4 clients / one at a time", "4 clients / 4 clients, unbatched",
    ]  # fmt: skip
    for one in record["comparisons"]:
        assert one["agreement"]["equal_codes"] == one["agreement"]["equal_decisions"] == 1.0
        assert one["agreement"]["probability_difference"] < 1e-5
    assert {each["rows"] for side in record["sides"].values() for each in side["measurements"]} == {24}
    assert command(*words, f"run={calibrated}") == 1
    assert "overwrite=true" in capfd.readouterr().err
    (here / "in.csv").write_text("job\n요리\n", encoding="utf-8")
    assert command("benchmarks.serve", f"run={calibrated}", "input=in.csv", "out=other") == 1
    assert "'workplace'" in capfd.readouterr().err


def test_predict_says_what_it_cannot_use(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "in.csv").write_text("job\n요리\n", encoding="utf-8")
    assert command("benchmarks.predict", f"run={finished}", "input=in.csv") == 1
    assert "'workplace'" in capfd.readouterr().err
    assert command("benchmarks.predict", f"run={finished}", "input=nowhere.csv") == 1
    assert "nowhere.csv" in capfd.readouterr().err
    assert command("benchmarks.predict", f"run={finished}") == 2
    assert "input=" in capfd.readouterr().err
    run = here / "run"
    shutil.copytree(finished, run)
    settings = json.loads((run / "model" / "kjcm.json").read_text(encoding="utf-8"))
    (run / "model" / "kjcm.json").write_text(json.dumps({**settings, "pooling": "mean"}), encoding="utf-8")
    assert command("benchmarks.predict", "run=run", "input=in.csv") == 1
    assert "pooling=cls" in capfd.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.parametrize("words", [["bench"], ["bench", "train", "steps=1"], ["bench", "--help"]])
def test_kjcm_says_where_the_benchmarks_went(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 2
    error = capfd.readouterr().err
    assert "python -m benchmarks.train" in error and len(error.splitlines()) == 1


def test_the_page_has_the_reference_of_the_keys() -> None:
    """To update it, paste what `python -c "from benchmarks.command import reference; print(reference())"` prints."""
    assert reference() in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_benchmark_is_a_program(tmp_path: Path) -> None:
    words = ("data.scale=0.02", "repeats=1", "--cfg", "job")
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = forking.run([sys.executable, "-m", "benchmarks.prepare", *words], 120, cwd=tmp_path, env=surroundings)
    assert done.returncode == 0, done.stderr
    assert "scale: 0.02" in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "word", ["loss=focal", "optim=sgd", "optim.betas=[0.9,0.98]", "param_groups.layer_decay=0.9",
             "trainer.flags.accumulate_grad_batches=2"],
)  # fmt: skip
def test_what_trainer_is_not_told_of_is_refused(word: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    assert command("benchmarks.train", *TRAIN, word, "alternatives=[trainer]") == 2
    assert "alternatives=[lightning]" in capfd.readouterr().err and not (here / "bench").exists()
