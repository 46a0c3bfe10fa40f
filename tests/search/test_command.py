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


def test_titles_of_codes_that_the_run_lacks_are_left_out(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "index.tsv"
    file.write_text("title\tcode\n빌딩 미화원\t9411\n", encoding="utf-8")
    named, titles = titles_of_run(finished, load_settings(finished / "model"), str(file))
    assert [one.code for one in titles] == ["9411"] and named.title("941") and not caplog.records


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("?!",), 1, "nothing found"),
        ((), 2, "query"),
        (("가", "classification=from_data"), 1, "classification.index"),
        (("가", "run=none"), 1, "none"),
        (("가", "run=none", "classification.path=x.tsv"), 2, "classification.path"),
        (("가", "classification.index=none.tsv"), 1, "none.tsv"),
        (("가", "most=0"), 2, "most"),
    ],
)
def test_what_it_refuses(
    words: tuple[str, ...], code: int, says: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("search", *words) == code
    assert says in capfd.readouterr().err
