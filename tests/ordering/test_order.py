"""`kjcm order`: uncertain texts first, none twice, the same each time; wrong input; the order of review."""

import json
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import load_classification
from kjcm.ordering import choice
from kjcm.ordering.choice import chosen
from kjcm.review.files import opened
from kjcm.review.queue import Queue
from kjcm.run_folder.model_folder import load_settings
from tests.conftest import ROOT, command

KSCO = load_classification("ksco7")
OPEN = ("choose", "search", "back off")
WORDS = ("order", "input=coded.csv", "output=ordered.csv")
TEXTS = ["택시 운전"] * 6 + ["용접원", "배관 용접원", "초등학교 교사", "은행 예금 상담"]


def test_hand_worked_gains() -> None:
    """Three texts like each other and one unlike them; the middle one of the three covers most."""
    similar = np.array([[1, 0.6, 0.2, 0], [0.6, 1, 0.6, 0], [0.2, 0.6, 1, 0], [0, 0, 0, 1]], np.float32)
    weight, nothing = np.array([1, 1, 1, 1], np.float32), np.zeros(4, np.float32)
    # gains 1.8, 2.2, 1.8, 1; then with 0.6, 1, 0.6 and 0 covered 0.4, 0, 0.4, 1; the first of two equal ones comes first
    assert choice._greedy(similar, weight, nothing, 4).tolist() == [1, 3, 0, 2]
    weight[2] = 5  # gains 2.6, 4.6, 5.8, 1
    assert choice._greedy(similar, weight, nothing, 2).tolist() == [2, 3]
    covered = np.array([0.6, 1, 0.6, 0], np.float32)  # the text 1 was chosen before
    assert choice._greedy(similar, weight, covered, 1).tolist() == [2]


def test_copies_of_an_uncertain_text_do_not_fill_the_first_places() -> None:
    uncertain = np.array([0.9] * 6 + [0.5] * 4)
    found = chosen(TEXTS, uncertain, 10, 0)
    assert found[0] == 0 and sorted(found) == [0, 6, 7, 8, 9]  # each text once
    welders = [place for place, row in enumerate(found) if row in (6, 7)]
    assert welders[1] == 4  # the second of two similar texts is last
    assert chosen(TEXTS, uncertain, 3, 0).tolist() == found[:3].tolist()


def test_uncertain_texts_come_before_certain_ones() -> None:
    assert chosen(["택시 운전", "용접원", "교사"], np.array([0.1, 0.9, 0.5]), 3, 0).tolist() == [1, 2, 0]


def test_decided_texts_are_left_out_and_count_as_chosen() -> None:
    uncertain = np.array([0.9] * 6 + [0.5, 0.6, 0.4, 0.5])
    found = chosen(TEXTS, uncertain, 10, 0, known=["택시 운전", "배관 용접원"]).tolist()
    assert sorted(found) == [6, 8, 9] and found[-1] == 6
    assert not len(chosen(["교사"], np.array([1.0]), 5, 0, known=["교사"]))


def test_of_many_texts_a_sample_is_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MOST", 20)
    texts, uncertain = [f"직업 {number}" for number in range(100)], np.linspace(0, 1, 100)
    first, again, other = (chosen(texts, uncertain, 15, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other and len({*first}) == 15
    frequent = ["택시 운전"] * 1000 + texts
    for seed in range(10):
        assert 0 in chosen(frequent, np.full(1100, 0.5), 15, seed)


@pytest.fixture
def coded(here: Path) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "n": range(10),
            "position": TEXTS,
            "decision": ["choose"] * 8 + ["accept", "invalid"],
            "prob_1": ["0.5"] * 6 + ["0.6", "0.7", "0.95", ""],
            "prob_2": ["0.4"] * 6 + ["0.3", "0.1", "0.01", ""],
        }
    )
    frame.to_csv("coded.csv", index=False)
    note = {"classes_hash": "x", "made_by": {"columns": {"workplace": None, "position": "position", "task": None}}}
    Path("coded.csv.json").write_text(json.dumps(note), encoding="utf-8")
    return frame


def test_the_column_numbers_the_rows(coded: pd.DataFrame, here: Path) -> None:
    assert command(*WORDS) == 0
    made = pd.read_csv("ordered.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(made[list(coded)], pd.read_csv("coded.csv", dtype=str, keep_default_na=False))
    assert made["review_order"][0] == "1" and (made["review_order"][1:6] == "").all()
    assert sorted(made["review_order"][6:8]) == ["2", "3"]
    assert (made["review_order"][8:] == "").all()  # accepted and invalid rows
    note = json.loads(Path("ordered.csv.json").read_text(encoding="utf-8"))
    assert note["classes_hash"] == "x" and (note["order"]["rows"], note["order"]["of"]) == (3, 8)
    assert command("order", "input=coded.csv", "output=again.parquet", "rows=2", "decisions=[choose,accept]") == 0
    again = pd.read_parquet("again.parquet")["review_order"]
    assert again.count() == 2 and again[0] == 1
    made.assign(reviewed_code=["871", *[""] * 9]).to_csv("reviewed.csv", index=False)
    assert command("order", "input=coded.csv", "output=next.csv", "reviewed=reviewed.csv") == 0
    assert pd.read_csv("next.csv")["review_order"].count() == 2


@pytest.mark.parametrize(
    ("change", "words", "code", "said"),
    [
        ({"prob_1": "2"}, [], 1, "column 'prob_1', data row 2: '2' is not a probability"),
        ({"decision": "accept"}, ["decisions=[search]"], 1, "coded.csv: no row has text and a decision to review"),
        ({}, ["decisions=[open]"], 2, "decisions=open: there is no such decision"),
        ({}, ["output=out.doc"], 2, "write one of"),
        ({}, ["output=coded.csv"], 2, "output=coded.csv: is an input"),
        ({}, ["output=coded.csv", "overwrite=true"], 2, "output=coded.csv: is an input"),
        ({}, ["reviewed=coded.csv"], 1, "has no column 'reviewed_code'"),
        ({"review_order": "1"}, [], 1, "already has the column 'review_order'"),
    ],
)
def test_wrong_input(
    change: dict[str, str], words: list[str], code: int, said: str, coded: pd.DataFrame, here: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, cell in change.items():
        coded.loc[1, name] = cell
    coded.to_csv("coded.csv", index=False)
    output = [] if any(word.startswith("output=") for word in words) else ["output=ordered.csv"]
    assert command(*WORDS[:2], *output, *words) == code
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["coded.csv", "coded.csv.json"]


def test_without_the_record_it_is_an_error(coded: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    Path("coded.csv.json").unlink()
    assert command(*WORDS) == 1
    assert "coded.csv.json: is missing" in capfd.readouterr().err


def test_review_shows_the_rows_in_this_order(finished: Path, here: Path) -> None:
    pd.DataFrame({"workplace": "", "position": TEXTS[4:], "task": ""}).to_csv("in.csv", index=False)
    words = (f"run={finished}", "input=in.csv", "output=coded.csv", "triage.threshold=0.999")
    assert command("predict", *words, "accelerator=cpu", "precision=32-true") == 0
    assert command(*WORDS, "rows=3") == 0
    places = pd.read_csv("ordered.csv")["review_order"]
    ordered = places.dropna().sort_values().index.tolist()
    rest = [row for row in range(6) if row not in ordered]
    settings = load_settings(finished / "model")
    store = opened(Path("ordered.csv"), Path("review.sqlite"), KSCO, settings)
    queue, wanted = Queue(store.items(), OPEN, once=False), np.ones(6, bool)
    seen = [queue.following(-1, wanted, "file", back=False)]
    for _ in range(5):
        seen.append(queue.following(seen[-1] or 0, wanted, "file", back=False))
    assert seen == [*ordered, *rest]
    assert queue.following(ordered[1], wanted, "file", back=True) == ordered[0]
    frame = pd.read_csv("ordered.csv", dtype=str, keep_default_na=False)
    frame.loc[0, "review_order"] = "first"
    frame.to_csv("wrong.csv", index=False)
    with pytest.raises(KjcmError, match=r"column 'review_order', data row 1: 'first'"):
        opened(Path("wrong.csv"), Path("wrong.sqlite"), KSCO, settings)


@pytest.mark.slow
def test_the_example_of_the_docs(shared: Callable[[str], Path], here: Path) -> None:
    """The table of docs/review.md, by the commands above it."""
    lines = (ROOT / "docs" / "review.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if "| review_order |" in line)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in takewhile(bool, lines[start:])]
    shown = pd.DataFrame(table[2:], columns=table[0])
    shown[["position", "task"]].assign(workplace="").to_csv("answers.csv", index=False)
    kinds = (f"classification.path={shared('data/ksco7/ksco7.tsv')}",
             f"classification.index={shared('data/kdo/titles.tsv')}")  # fmt: skip
    assert command("train", "from=titles", *kinds, "run_dir=run") == 0
    assert command("predict", "run=run", "input=answers.csv", "output=coded.csv") == 0
    assert command(*WORDS, "rows=6") == 0
    found = pd.read_csv("ordered.csv", dtype=str, keep_default_na=False)
    for name in ("prob_1", "prob_2"):
        found[name] = [f"{float(cell):.2f}" for cell in found[name]]
    assert found[list(shown)].to_dict("list") == shown.to_dict("list")
