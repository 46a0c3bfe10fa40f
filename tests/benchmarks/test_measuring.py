"""The statistics against hand-worked numbers, and the record of them."""

from typing import Any

import pytest

from benchmarks import device
from benchmarks.measuring import Measurement, alternate, medians, ratios
from benchmarks.result import Benchmark, Comparison, record_of

OURS = [Measurement(seconds, 100, 3.0, 2000, 10) for seconds in (1.0, 2.0, 4.0)]
THEIRS = [Measurement(seconds, 100, 1.0, 2000, 10) for seconds in (4.0, 4.0, 4.4)]


def test_each_repeat_begins_with_another_side() -> None:
    done: list[str] = []

    def side(name: str) -> Any:
        def measure() -> Measurement:
            done.append(name)
            return Measurement(float(len(done)), 1)

        return measure

    measured = alternate({name: side(name) for name in "abc"}, repeats=4)
    assert "".join(done) == "abc" + "bca" + "cab" + "abc"
    assert list(measured) == ["a", "b", "c"]
    assert [one.seconds for one in measured["a"]] == [1, 6, 8, 10]


def test_ratios_are_taken_within_a_repeat() -> None:
    assert ratios(OURS, THEIRS) == pytest.approx([4.0, 2.0, 1.1])


def test_a_ratio_is_of_rows_a_second() -> None:
    assert ratios([Measurement(2.0, 100)], [Measurement(1.0, 10)]) == pytest.approx([5.0])


def test_medians_over_the_repeats() -> None:
    assert medians(OURS) == {
        "rows_per_second": 50.0, "tokens_per_second": 1000.0, "milliseconds_per_step": 200.0, "seconds": 2.0,
        "setup_seconds": 3.0, "peak_memory": None,
    }  # fmt: skip
    found = medians([Measurement(2.0, 3, peak_memory=5), Measurement(1.0, 3, peak_memory=7)])
    assert found["peak_memory"] == 6 and found["tokens_per_second"] is None and found["rows_per_second"] == 2.25


def test_the_record_holds_medians_ratio_and_spread() -> None:
    measured = {"kjcm": OURS, "trainer": THEIRS}
    comparison = Comparison("kjcm", "trainer", {"same_rows": True, "loss_ours": 1.0, "loss_alternative": 1.5})
    sides = {"kjcm": "a", "trainer": "b"}
    record = record_of(Benchmark("train", "ours and theirs", True, {"steps": 10}, {}, sides, measured, [comparison]))
    (one,) = record["comparisons"]
    assert one["name"] == "kjcm / trainer" and one["ratio"] == pytest.approx(2.0)
    assert one["spread"] == pytest.approx([1.1, 4.0]) and one["ratios"] == pytest.approx([4.0, 2.0, 1.1])
    assert record["sides"]["trainer"]["seconds"] == 4.0
    assert [each["seconds"] for each in record["sides"]["kjcm"]["measurements"]] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("load", "quiet"), [(1.0, True), (1.01, False)])
def test_a_machine_is_quiet_up_to_half_its_cores(
    load: float, quiet: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(device.os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert device.machine(gpu=False)["quiet"] is quiet
    assert ("not quiet" in caplog.text) is not quiet
