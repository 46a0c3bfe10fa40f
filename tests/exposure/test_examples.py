"""The example of Rubin's rules, by hand-worked numbers, and the simulation of coverage, with few samples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "exposure"
sys.path.insert(0, str(FOLDER))
import rubin  # noqa: E402
import simulation  # noqa: E402


def test_hand_worked_rules() -> None:
    """Within 0.5, between 1, total 0.5 + 4/3; 8/11 of it is lost, so df is 1 / (1/3.78125 + 1/2.30769)."""
    found = rubin.pooled(np.array([1.0, 2.0, 3.0]), np.full(3, 0.5), 10)
    assert (found.estimate, found.within, found.between) == (2, 0.5, 1)
    assert found.total == pytest.approx(11 / 6)
    assert found.df == pytest.approx(1.433083, abs=1e-5)
    assert found.high - 2 == pytest.approx(2 - found.low)
    same = rubin.pooled(np.ones(3), np.full(3, 0.25), 10)  # nothing is lost but by the small sample
    assert (same.total, same.df) == (0.25, pytest.approx(110 / 13))
    none = rubin.pooled(np.ones(3), np.zeros(3), 10)  # nobody's exposure differs
    assert (none.total, none.low, none.high) == (0, 1, 1)


def test_the_printed_imputations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.Generator(np.random.PCG64(4))
    draws = pd.DataFrame(generator.integers(0, 2, (50, 100)), columns=[f"x_draw_{n}" for n in range(1, 101)])
    draws.assign(y=generator.normal(size=50)).to_csv("f.csv", index=False)
    rubin.main("f.csv", "x", "y")
    mean, slope = (line for line in capsys.readouterr().out.splitlines() if "interval" in line)
    assert "100 imputations" in mean and "20 imputations" in slope
    with pytest.raises(SystemExit, match=r"f\.csv: has no column 'z'"):
        rubin.main("f.csv", "x", "z")
    draws.assign(y="비밀").to_csv("f.csv", index=False)
    with pytest.raises(SystemExit, match=r"f\.csv, column 'y': has values that are no numbers"):
        rubin.main("f.csv", "x", "y")
    with pytest.raises(SystemExit, match=r"g\.csv: no such file"):
        rubin.main("g.csv", "x")


def test_an_outlier_gets_its_likeliest_draw() -> None:
    """An outcome of 1,000 is 70 standard deviations from every draw, where each likelihood is 0 as a float."""
    generator = np.random.Generator(np.random.PCG64(4))
    draws = generator.integers(0, 2, (5000, 100)).astype(float)
    outcome = 4 * draws[:, 0] + generator.normal(size=5000)
    draws[:, 1:] = draws[:, :1]
    outcome[0], draws[0] = 1000.0, [0, *np.ones(99)]
    assert rubin.with_outcome(draws, outcome, 2, 2, generator)[0].tolist() == [1, 1]


def test_a_regression_by_hand() -> None:
    """Points (0, 1), (1, 2), (2, 6): slope 2.5, residuals 0.5, -1, 0.5, variance 1.5 / 2."""
    estimate, variance = rubin.slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 6.0]))
    assert (estimate, variance) == (pytest.approx(2.5), pytest.approx(0.75))


def test_coverage() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    truth = {"mean": float(simulation.PRIOR @ simulation.LEVEL), "slope": simulation.SLOPE}
    found = simulation.coverage([simulation.replicate(generator) for _ in range(30)], truth)
    covered = {key: value[1] for key, value in found.items()}
    assert covered["mean", "top-1 codes"] < 0.5 < 0.85 < covered["mean", "draws"]
    assert covered["slope", "top-1 codes"] < 0.5 < 0.8 < covered["slope", "draws given the outcome"]
    assert covered["slope", "draws"] < 0.1  # they do not know the outcome


def test_shares_from_probabilities_are_closer() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    results = [simulation.shares(generator) for _ in range(30)]
    tables = [table for table, _ in results]
    top, whole = (np.array([table[name] for table in tables]).mean(axis=0) for name in tables[0])
    assert whole[0] < 0.75 * top[0] and whole[1] < 0.75 * top[1]
    assert top[2] < 0.88 < 0.92 < whole[2]
    present, both, coding = np.stack([inside for _, inside in results], axis=1)
    assert both.mean() == pytest.approx(whole[2]) and not both[~present].any() and not coding[~present].any()
    assert coding[present].mean() < both[present].mean()


def test_the_script_reads_what_expose_writes(tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    draws = {f"noise_draw_{number}": generator.integers(0, 3, 50) for number in range(1, 101)}
    pd.DataFrame({"y": [np.nan, *generator.normal(size=49)], **draws}).to_csv(tmp_path / "out.csv", index=False)
    words = [sys.executable, str(FOLDER / "rubin.py"), str(tmp_path / "out.csv")]
    done = subprocess.run([*words, "noise", "y"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].endswith(": 1") and lines[1] == "49 rows"
    assert lines[2].startswith("mean exposure: ") and "\nslope: " in done.stdout
    few = subprocess.run([*words, "dust"], capture_output=True, text=True, check=False)
    assert few.returncode == 1 and "0 columns dust_draw_N" in few.stderr
