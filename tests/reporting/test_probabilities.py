"""The report's figures of calibration and triage, against the run's own files, worked out anew."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import softmax

from kjcm.records import read_json
from kjcm.reporting.probabilities import PLAIN, _mean_or_none
from kjcm.run_folder.held_out import held_rows
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.logits import Scored, load_scored
from kjcm.triage.pick_lists import sizes
from kjcm.triage.rules import CHOOSE, FIXED, SEARCH, Tree, Triage
from tests.conftest import ROOT, command

Shown = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def shown(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The report's tables and the data of its figures."""
    out = tmp_path_factory.mktemp("triage") / "report"
    assert (
        command("report", f"runs={calibrated.parent}", f"out={out}", "only=[calibration,triage]", "replicates=0") == 0
    )
    assert all(
        (out / "figures" / f"{name}.png").stat().st_size > 10_000 for name in ("reliability", "acceptance_curve")
    )
    return {file.stem: pd.read_csv(file) for file in out.glob("*/*.csv")}


@pytest.fixture(scope="module")
def test_rows(calibrated: Path) -> tuple[Scored, np.ndarray, np.ndarray]:
    """The test rows, and their probabilities before and after calibration."""
    settings = load_settings(calibrated / "model")
    rows = load_scored(calibrated / "test_logits.safetensors", len(settings.classes), settings.classes_hash)
    temperature = read_json(calibrated / "model" / "calibration.json")["temperature"]
    return rows, *(softmax(rows.logits.astype(float) / at, axis=1) for at in (1.0, temperature))


def own(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the one model that is run."""
    return table[table["Model"] == "K-JCM"].reset_index(drop=True)


def test_calibration(shown: Shown, test_rows: tuple[Scored, np.ndarray, np.ndarray]) -> None:
    rows, *both = test_rows
    table = own(shown["calibration"])
    assert table["Probabilities"].tolist() == ["as the model gives them", "calibrated"]
    for line, probability in zip(table.to_dict("records"), both, strict=True):
        confidence, right = probability.max(axis=1), probability.argmax(axis=1) == rows.labels
        place = np.ceil(confidence * 15).astype(int)
        error = sum(abs((confidence - right)[place == one].sum()) for one in set(place)) / len(right)
        assert line["Expected calibration error"] == pytest.approx(error)
        assert line["Rows of 0.80 or more"] == pytest.approx((confidence >= 0.8).mean())
        if (confidence >= 0.8).any():
            assert line["Right among them"] == pytest.approx(right[confidence >= 0.8].mean())
    for name, probability in zip(("as the model gives them", "calibrated"), both, strict=True):
        bins = shown["reliability"][shown["reliability"]["Probabilities"] == name]
        assert bins["Rows"].sum() == len(rows.labels)
        assert (bins["Mean probability"] * bins["Rows"]).sum() == pytest.approx(probability.max(axis=1).sum())


def test_acceptance(shown: Shown, test_rows: tuple[Scored, np.ndarray, np.ndarray]) -> None:
    rows, _, probability = test_rows
    right = (probability.argmax(axis=1) == rows.labels)[np.argsort(-probability.max(axis=1), kind="stable")]
    (line,) = own(shown["acceptance"]).to_dict("records")
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert float(line[f"{100 * share:.0f} % accepted"]) == pytest.approx(right[: int(share * len(right))].mean())
    curve = own(shown["acceptance_curve"])
    assert curve["Accuracy"].iloc[-1] == pytest.approx(right.mean()) and curve["Accepted"].iloc[-1] == 1
    assert shown["acceptance_curve"]["Accepted"].is_monotonic_increasing


def test_promises(shown: Shown) -> None:
    table = own(shown["triage"]).set_index("Rule")
    targets = [float(rule.split()[2].rstrip("%")) / 100 for rule in table.index[1:]]
    assert targets == [0.05, 0.1, 0.2, 0.3, 0.4]
    accepted = table["Accepted"].iloc[1:]
    assert accepted.is_monotonic_increasing and accepted.iloc[-1] > 0.1
    for target, line in zip(targets, table.iloc[1:].to_dict("records"), strict=True):
        assert (
            line["Runs within the target"]
            == f"{int(np.isnan(line['Errors among them']) or line['Errors among them'] <= target)} of 1"
        )
        assert line["Accepted"] + line["To choose from a list"] + line["To search for"] == pytest.approx(1)


def test_pick_lists_and_managers(
    shown: Shown, test_rows: tuple[Scored, np.ndarray, np.ndarray], calibrated: Path
) -> None:
    rows, _, probability = test_rows
    lists = own(shown["pick_lists"]).set_index("Groups by size")
    settings = load_settings(calibrated / "model")
    held = held_rows(calibrated / "model", settings)
    calibration = read_json(calibrated / "model" / "calibration.json")
    rules = Triage(
        PLAIN, Tree(settings.classes, settings.ancestors, settings.n_train), held, calibration["temperature"]
    )
    found = rules.decide(probability)
    listed = found.decision == CHOOSE
    line = lists.loc["all"]
    assert line["Undecided rows"] == np.isin(found.decision, (CHOOSE, SEARCH)).sum()
    assert line["With a list"] == pytest.approx(listed.sum() / line["Undecided rows"]) and listed.any()
    assert line["Mean codes"] == pytest.approx(sizes(found.picks)[listed].mean())
    right = (found.picks == rows.labels[:, None]).any(axis=1)
    assert line["Right code on the list"] == pytest.approx(right[listed].mean())
    assert line["Right code on the list"] >= line["Right code in a top-n of equal mean length"]
    managers = own(shown["managers"])
    assert managers["Who can be coded as a manager"].tolist() == ["everybody", "who says so in position or task"]
    codes = np.array(settings.classes)
    manager = np.append(np.char.startswith(codes.astype(str), "1"), False)
    gated = np.where(manager[:-1] & ~rows.words[:, None], 0, probability)
    for line, first in zip(managers.to_dict("records"), (probability.argmax(1), gated.argmax(1)), strict=True):
        given, true = manager[first], manager[np.minimum(rows.labels, len(codes))]
        assert line["Coded as one"] == given.sum()
        assert line["Recall"] == pytest.approx((given & true).sum() / true.sum())
        assert line["Accuracy of all rows"] == pytest.approx((first == rows.labels).mean())
        if given.any():
            assert line["Precision"] == pytest.approx((given & true).sum() / given.sum())


def test_a_run_that_accepts_nothing_has_no_share_of_errors() -> None:
    both = _mean_or_none([0.4, float("nan")])
    assert both and both.mean == 0.4 and _mean_or_none([float("nan")]) is None


def test_runs_without_validation_rows_say_what_they_lack(finished: Path, tmp_path: Path) -> None:
    assert (
        command(
            "report", f"runs={finished.parent}", f"out={tmp_path / 'r'}", "only=[calibration,triage]", "replicates=0"
        )
        == 0
    )
    for name in ("calibration", "triage", "pick_lists", "managers", "acceptance"):
        text = (tmp_path / "r" / "tables" / f"{name}.md").read_text(encoding="utf-8")
        assert "| K-JCM |" not in text and "data.validation=0.3 name=k_jcm_calibrated" in text
    assert not list((tmp_path / "r").glob("figures/reliability*"))


def test_the_report_shows_what_predict_does_by_default() -> None:
    names = ("triage_rules", "predict")
    parts = [yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text(encoding="utf-8"))["triage"] for name in names]
    default = {**parts[0], **parts[1], "threshold": FIXED}
    assert parts[0]["threshold"] is None and default.pop("index_file") is None
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in vars(PLAIN).items()} == default
