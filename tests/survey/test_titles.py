"""`kjcm train from=titles`: a coder for all groups from titles alone, which says that it is not validated."""

import json
from pathlib import Path

import pandas as pd
import pytest

import kjcm
from kjcm.coding.run_rules import say
from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification
from kjcm.run_folder.contents import run_report
from kjcm.run_folder.model_folder import load_settings
from kjcm.run_folder.states import entry_of
from kjcm.survey.rows import rows_of
from tests.conftest import command, config_of

FAST = (
    "~model.views.position",
    "model.views.text.ngrams=[2,3]",
    "model.calibration_folds=0",
    "model.above=[]",
    "logger=[]",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of titles with an index; tests must not write into it."""
    folder = tmp_path_factory.mktemp("titles")
    (folder / "index.csv").write_text("title,code\n택시 기사,8731\n택시기사,873\n비행사,23\n", encoding="utf-8")
    words = ("from=titles", f"classification.index={folder / 'index.csv'}", f"run_dir={folder / 'run'}", *FAST)
    assert command("train", *words) == 0
    return folder / "run"


def test_every_group_with_a_title_is_a_class(run: Path, ksco: Classification) -> None:
    assert load_settings(run / "model").classes == ksco.codes(3) and (run / "DONE").exists()
    report = run_report(run)
    assert report["metrics"] == {} and report["n_test"] == 0 and report["data"] == "titles"
    rows = rows_of(
        config_of("train", "from=titles", f"classification.index={run.parent / 'index.csv'}"), test=False, cache=None
    )
    train = rows.sides["train"]
    assert not rows.n_augmented and set(rows.sides) == {"train"}
    assert train[train["text"].str.contains("택시")][["position", "code"]].to_numpy().tolist()[-2:] == [
        ["택시 기사", "873"], ["택시기사", "873"],
    ]  # fmt: skip
    assert "비행사" not in set(train["text"])


def test_it_codes_and_says_that_nothing_has_validated_it(run: Path, here: Path) -> None:
    pd.DataFrame({"workplace": ["회사"], "position": ["택시 기사"], "task": ["택시 운전"]}).to_csv(
        "in.csv", index=False
    )
    assert command("predict", f"run={run}", "input=in.csv", "output=out.csv") == 0
    assert pd.read_csv("out.csv", dtype=str)["code_1"].tolist() == ["873"]
    note = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))
    assert note["decisions"]["accept"] == 0 == note["decisions"]["search"] and note["triage"]["threshold"] is None
    assert command("predict", f"run={run}", "input=in.csv", "output=c.csv", "triage.threshold=0.01") == 0
    assert json.loads(Path("c.csv.json").read_text(encoding="utf-8"))["decisions"]["accept"] == 1
    assert len(kjcm.load(run).code(["택시 운전"])["pick_list"][0].split()) == 5
    assert "not validated on your answers" in note["validation"] and note["triage"]["from_titles"]
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "not validated on your answers" in card and "titles alone" in card and "language:" not in card
    assert "data.validation" not in card
    cohort = json.loads((run / "cohort.json").read_text(encoding="utf-8"))
    assert cohort["data"] == "titles, not answers"
    assert cohort["flow"]["read_by_file"] == {"titles": cohort["flow"]["read"]}
    assert entry_of(run).reason == "not validated on your answers" and kjcm.load(run).from_titles
    assert command("triage", f"run={run}") == 1
    assert command("predict", f"run={run}", "input=in.csv", "output=b.csv", "triage.target_error=0.1") == 2


def test_its_warning_depends_on_the_threshold(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rules, is_named in (({}, True), ({"threshold": 0.5}, False), ({"index": "suggest"}, True)):
        caplog.clear()
        say(kjcm.load(run, triage=rules).promises)
        assert "not validated" in caplog.text and ("triage.threshold" in caplog.text) is is_named
        assert "figures below" not in caplog.text


def test_prepare_reads_the_index_of_titles(run: Path, here: Path) -> None:
    index = f"classification.index={run.parent / 'index.csv'}"
    assert command("prepare", "data=titles", "data.cutoff=0", index, "out=with") == 0
    assert command("prepare", "data=titles", "data.cutoff=0", "out=without") == 0
    flows = [json.loads(Path(out, "cohort.json").read_text(encoding="utf-8"))["flow"] for out in ("with", "without")]
    assert flows[0]["read"] == flows[1]["read"] + 2


def test_reviewed_rows_join_the_titles(run: Path, here: Path) -> None:
    reviewed = {
        "id": ["1"],
        "workplace": ["역"],
        "position": ["기관사"],
        "task": ["기차 운전"],
        "reviewed_code": ["872"],
    }
    pd.DataFrame(reviewed).to_csv("reviewed.csv", index=False)
    rows = rows_of(config_of("train", "from=titles", "data.reviewed=reviewed.csv"), test=False, cache=None)
    assert (rows.n_reviewed, rows.reviewed_left) == (1, {})
    assert rows.sides["train"]["task"].tolist()[-1] == "기차 운전"


def test_the_remedies_are_those_of_a_run_from_titles(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="data=table"):
        kjcm.load(run, triage={"target_error": 0.1})
    for words in (["data=titles"], ["from=titles", "data.cutoff=10"]):
        with pytest.raises(ConfigError, match=r"data\.cutoff=0"):
            rows_of(config_of("train", *words), test=False, cache=None)
    with pytest.raises(ConfigError, match=r"evaluate=false"):
        rows_of(config_of("train", "from=titles"), test=True, cache=None)
    assert command("baseline", "data=titles") == 2
    assert "from=titles" in capsys.readouterr().err
    assert command("evaluate", f"run={run}") == 1
    assert "data.test_path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data.validation=0.3"], "data.validation"),
        (["data.train_share=0.7"], "data.train_share"),
        (["data.folds=5"], "data.folds"),
        (["data.columns.position=null"], "data.columns.position"),
        (["classification=from_data", "data.level=2"], "classification.path"),
        (["classification.index=absent.csv"], "absent.csv"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], named: str, here: Path) -> None:
    with pytest.raises((ConfigError, KjcmError), match=named.replace(".", r"\.")):
        rows_of(config_of("train", "from=titles", *words), test=False, cache=None)
