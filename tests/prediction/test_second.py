"""`kjcm predict second.run=`: one command codes rows by two runs, with the columns of two commands."""

from pathlib import Path

import pandas as pd
import pytest

from kjcm.records import read_json
from tests.conftest import command

WORDS = {"C": "공장 생산", "G": "가게 판매", "I": "식당 음식", "P": "학교 수업"}


@pytest.fixture(scope="module")
def industry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of invented sections of industry, whose text is another column; tests must not write into it."""
    folder = tmp_path_factory.mktemp("industry")
    rows = [(f"{text} {place}", code) for code, text in WORDS.items() for place in "가나다라마바사아자차"]
    pd.DataFrame(rows, columns=["company", "ksic"]).to_csv(folder / "train.csv", index=False)
    (folder / "ksic.tsv").write_text(
        "code\ttitle\nC\t제조업\nG\t도매 및 소매업\nI\t숙박 및 음식점업\nP\t교육 서비스업\n", encoding="utf-8"
    )
    assert command(
        "train", "data=table", f"data.path={folder}/train.csv", "data.columns.id=null", "data.columns.workplace=company",
        "data.columns.position=null", "data.columns.task=null", "data.columns.code=ksic", "data.cutoff=0", "data.level=1",
        "data.validation=0.2", "classification=from_data", f"classification.path={folder}/ksic.tsv", "model=linear",
        "~model.views.position",
        "augment=none", f"run_dir={folder}/run",
    ) == 0  # fmt: skip
    return folder / "run"


@pytest.fixture
def rows(here: Path) -> pd.DataFrame:
    """in.csv in the working folder: rows of which some have no text for one of the runs."""
    frame = pd.DataFrame({"n": range(30), "position": "직원"})
    frame["company"] = [f"{list(WORDS.values())[row % 4]} {row}" if row % 5 else "" for row in range(30)]
    frame["task"] = [["예금 상담", "택시 운전", "음식 조리", ""][row % 4] for row in range(30)]
    frame.to_csv("in.csv", index=False)
    return frame


def words_for(calibrated: Path, industry: Path, *more: str) -> tuple[str, ...]:
    return (
        "predict", f"run={calibrated}", "columns.workplace=null", "input=in.csv", "chunk_rows=7", "accelerator=cpu",
        f"second.run={industry}", *more,
    )  # fmt: skip


def test_the_columns_are_those_of_two_commands(
    calibrated: Path, industry: Path, rows: pd.DataFrame, here: Path
) -> None:
    both = words_for(calibrated, industry)
    assert command(*both, "output=both.csv", "triage.managers=words", "top_k=3") == 0
    assert command(*both[:-1], "output=one.csv", "triage.managers=words", "top_k=3") == 0
    assert command("predict", f"run={industry}", "input=in.csv", "output=other.csv", "accelerator=cpu", "top_k=3") == 0
    made, one, other = (pd.read_csv(f"{name}.csv", dtype=str) for name in ("both", "one", "other"))
    added = [name for name in other if name not in rows]
    pd.testing.assert_frame_equal(made[list(one)], one)
    assert list(made)[len(one.columns) :] == [f"industry_{name}" for name in added]
    for name in added:
        assert made[f"industry_{name}"].tolist() == other[name].tolist() or made[f"industry_{name}"].equals(other[name])
    assert made["industry_code_1"][1] == "G" and made["industry_title_1"][1] == "도매 및 소매업"
    assert made["industry_decision"][0] == "invalid" != made["decision"][0]
    record, alone = read_json(Path("both.csv.json")), read_json(Path("other.csv.json"))
    assert record["second"]["run"] == str(industry)
    assert record["second"]["decisions"] == alone["decisions"] != record["decisions"]
    assert record["made_by"]["second"]["model"] == alone["made_by"]["model"]


def test_shards_and_an_interruption_give_the_same_bytes(
    calibrated: Path, industry: Path, rows: pd.DataFrame, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_for(calibrated, industry, "second.prefix=ksic_", "all_probabilities=true")
    assert command(*words, "output=one.parquet") == 0
    for number in (2, 1):
        assert command(*words, "output=merged.parquet", f"shard={number}/2") == 0
    assert command(*words, "output=merged.parquet", "merge=2") == 0
    from kjcm.coding.parts import Parts

    write, stored = Parts.write, []

    def dying(self: Parts, number: int, coded: object) -> None:
        if len(stored) == 3:
            raise OSError("stopped")
        stored.append(self._part(number).name)
        write(self, number, coded)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", dying)
        assert command(*words, "output=again.parquet") != 0
    assert len(list(Path(".again.parquet.parts").glob("*.npz"))) == 3
    assert any(name.startswith("second-") for name in stored)
    assert command(*words, "output=again.parquet") == 0
    assert read_json(Path("again.parquet.json"))["rows_resumed"] == 7  # of the second chunk one run's codes were stored
    names = list(pd.read_parquet("one.parquet"))
    assert "ksic_probability_G" in names and any(name.startswith("probability_") for name in names)
    assert {Path(f"{name}.parquet").read_bytes() for name in ("merged", "again")} == {Path("one.parquet").read_bytes()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("second.prefix=",), "second.prefix"),
        (("engine=ray",), "second.run"),
        (("second.columns.workplace=nowhere",), "second.columns.workplace=NAME"),
    ],
)
def test_what_does_not_fit_is_said(
    words: tuple[str, ...], said: str, calibrated: Path, industry: Path, rows: pd.DataFrame,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert command(*words_for(calibrated, industry, *words), "output=out.csv") != 0
    assert said in capfd.readouterr().err and not Path("out.csv").exists()


def test_a_column_of_the_second_run_is_not_overwritten(
    calibrated: Path, industry: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    rows.assign(industry_code_1="x").to_csv("in.csv", index=False)
    assert command(*words_for(calibrated, industry), "output=out.csv") == 1
    assert "'industry_code_1'" in capfd.readouterr().err


def test_errors_of_the_second_run_name_its_key(
    calibrated: Path, rows: pd.DataFrame, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "unfinished").mkdir()
    for folder, said in (("nope", "no such folder"), ("unfinished", "not a finished run")):
        assert command(*words_for(calibrated, Path(folder)), "output=out.csv") == 1
        error = capfd.readouterr().err
        assert f": second.run={folder}: {said}" in error and " run=" not in error
    assert command("predict", "run=nope", "input=in.csv", "output=out.csv") == 1
    assert ": run=nope: no such folder" in capfd.readouterr().err
