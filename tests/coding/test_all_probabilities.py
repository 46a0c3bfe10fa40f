"""`kjcm predict all_probabilities=true`: a column for each class, in the order of the classes, in every way of coding."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kjcm
from kjcm.coding.coder import Coder, Ready
from kjcm.records import read_json
from tests.coding.test_shards import rows, words_for  # noqa: F401
from tests.conftest import command

WORDS = ("all_probabilities=true", "precision=32-true", "triage.managers=words")


def test_the_columns_are_the_distribution(calibrated: Path, rows: pd.DataFrame) -> None:  # noqa: F811
    assert command(*words_for(calibrated, *WORDS), "output=out.parquet") == 0
    coder = kjcm.load(calibrated, accelerator="cpu", precision="32-true", triage={"managers": "words"})
    expected = coder.probabilities(rows)
    made, classes = pd.read_parquet("out.parquet"), read_json(Path("out.parquet.json"))["classes"]
    assert classes == list(coder.classes)
    names = [name for name in made if name.startswith("probability_")]
    assert names == [f"probability_{code}" for code in classes]
    found = made[names]
    assert set(map(str, found.dtypes)) == {"float32"}
    np.testing.assert_allclose(found, expected, atol=1e-6)
    coded = made["decision"] != "invalid"
    assert 0 < coded.sum() < len(made) == len(rows)
    assert found[~coded].isna().all(axis=None)
    np.testing.assert_allclose(found[coded].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[coded].max(axis=1), made["prob_1"][coded])
    assert found[coded].idxmax(axis=1).tolist() == ("probability_" + made["code_1"][coded]).tolist()
    assert made["n"].astype(int).tolist() == rows["n"].tolist()


@pytest.mark.usefixtures("rows")
def test_shards_and_a_resumed_coding_write_the_same_bytes(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_for(calibrated, *WORDS)
    assert command(*words, "output=one.parquet") == 0
    for number in (2, 1):
        assert command(*words, "output=out.parquet", f"shard={number}/2") == 0
    assert command(*words, "output=out.parquet", "merge=2") == 0
    assert Path("out.parquet").read_bytes() == Path("one.parquet").read_bytes()
    probabilities = Coder.probabilities

    def third_fails(self: Coder, ready: Ready) -> object:
        if len(list(Path().glob(".again.parquet.parts/*.npz"))) == 2:
            raise RuntimeError("the device is gone")
        return probabilities(self, ready)

    with monkeypatch.context() as patch:
        patch.setattr(Coder, "probabilities", third_fails)
        assert command(*words, "output=again.parquet") == 1
    assert command(*words, "output=again.parquet") == 0
    assert read_json(Path("again.parquet.json"))["rows_resumed"] == 14
    assert Path("again.parquet").read_bytes() == Path("one.parquet").read_bytes()


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".dta"])
@pytest.mark.usefixtures("rows")
def test_other_kinds_are_refused(ending: str, calibrated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*words_for(calibrated), "all_probabilities=true", f"output=out{ending}") == 2
    said = capfd.readouterr().err
    assert "all_probabilities=true" in said and "output=FILE.parquet" in said
    assert [path.name for path in Path().iterdir()] == ["in.csv"]
