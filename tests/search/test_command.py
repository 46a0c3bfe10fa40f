"""`kjcm search`: TSV where the output is no terminal, a run's index and model, and what it refuses."""

from pathlib import Path

import pytest

from kjcm.ksco.classification import load_classification
from kjcm.run_folder.model_folder import load_settings
from kjcm.search.by_model import scorer_of
from kjcm.search.sources import titles_of_run
from tests.conftest import command


@pytest.fixture
def index(tmp_path: Path) -> Path:
    file = tmp_path / "index.tsv"
    file.write_text("title\tcode\n빌딩 미화원\t9411\n비행 교관\t2541\n", encoding="utf-8")
    return file


def printed(capfd: pytest.CaptureFixture[str], *words: object) -> list[list[str]]:
    assert command("search", *words) == 0
    return [line.split("\t") for line in capfd.readouterr().out.splitlines()]


def test_it_prints_tsv(index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    header, first, *_ = printed(capfd, "빌딩", "미화", f"classification.index={index}", "level=3")
    assert header == ["code", "title", "why", "matched", "matched_code", "source", "probability"]
    assert first == [
        "941", load_classification("ksco7").title("941"), "title begins", "빌딩 미화원", "9411", "index", "",
    ]  # fmt: skip
    assert [line[0] for line in printed(capfd, "0111")] == ["code", "111", "1110"]
    assert len(printed(capfd, "원", "most=3")) == 4


def test_a_runs_model_comes_last(index: Path, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, *lines = printed(capfd, "빌딩미화원", f"run={finished}", f"classification.index={index}")
    assert lines[0][:3] == ["941", load_classification("ksco7").title("941"), "title"]
    assert lines[-1][2] == "model" and 0 < float(lines[-1][-1]) < 1 and len(lines[-1][0]) == 3
    scores = scorer_of(finished / "model")("건물 청소")
    assert len(scores) == 5 and [each for _, each in scores] == sorted((each for _, each in scores), reverse=True)
    assert scorer_of(finished / "model")("") == []


def test_an_exact_code_needs_no_model(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert [line[2] for line in printed(capfd, "9411", f"run={finished}")] == ["why", "code"]


def test_titles_of_codes_that_the_run_lacks_are_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.csv").write_text(
        "task,code\n" + "".join(f"빵 굽기 {n},B1\n차 운전 {n},D2\n" for n in range(10)), encoding="utf-8"
    )
    assert command(
        "train", "data=table", f"data.path={tmp_path}/train.csv", "data.columns.id=null", "data.columns.workplace=null",
        "data.columns.position=null", "data.cutoff=0", "data.level=null", "data.validation=0.2", "augment=none",
        "classification=from_data", "model=linear", "~model.views.position", f"run_dir={tmp_path}/run",
    ) == 0  # fmt: skip
    file, settings = tmp_path / "index.tsv", load_settings(tmp_path / "run/model")
    file.write_text("title\tcode\n빵 굽는 사람\tB1\n빵 장수\tZZZ\n", encoding="utf-8")
    assert scorer_of(tmp_path / "run/model")("빵 굽기")[0][0] == "B1"  # as a task, because the run has no positions
    _, titles = titles_of_run(tmp_path / "run", settings, str(file))
    assert [one.code for one in titles] == ["B1"] and "1 job title not" in "".join(capfd.readouterr())


def test_the_model_reads_the_query_as_a_position(tmp_path: Path) -> None:
    rows = "".join(f"빵 장수 {n},차로 나른다 {n},B1\n차 기사 {n},빵을 나른다 {n},D2\n" for n in range(10))
    (tmp_path / "train.csv").write_text("position,task,code\n" + rows, encoding="utf-8")
    assert command(
        "train", "data=table", f"data.path={tmp_path}/train.csv", "data.columns.id=null", "data.columns.workplace=null",
        "data.cutoff=0", "data.level=null", "classification=from_data", "model=linear", "~model.views.text",
        "+model.views.task={of: char, field: task, ngrams: [1, 4], weight: 1}", f"run_dir={tmp_path}/run",
    ) == 0  # fmt: skip
    assert [scorer_of(tmp_path / "run/model")(query)[0][0] for query in ("빵", "차")] == ["B1", "D2"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("?!",), 1, "query: nothing"),
        ((), 2, "query"),
        (("가", "classification=from_data"), 1, "classification.index"),
        (("가", "run=none"), 1, "none"),
        (("가", "run=none", "classification.path=x.tsv"), 2, "classification.path"),
        (("가", "run=none", "classification=from_data"), 2, "classification=from_data"),
        (("가", "run=none", "classification.index=x.tsv"), 1, "none"),
        (("가", "classification.index=none.tsv"), 1, "none.tsv"),
        (("가", "most=0"), 2, "most"),
    ],
)
def test_what_it_refuses(
    words: tuple[str, ...], code: int, says: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("search", *words) == code
    assert says in capfd.readouterr().err
