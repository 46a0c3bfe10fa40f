"""`kjcm drift` on small files: comparison, audit sample, review, estimate, bad input."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.run_folder.held_out import HELD
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.logits import load_scored, save_scored
from tests.conftest import FEW_STEPS, command
from tests.reviews import begin_review

KINDS = {"빵": "100", "차": "200", "책": "300", "집": "400"}
OTHER = {"100": "200", "200": "300", "300": "400", "400": "100"}
VERBS = ("굽는", "고치는", "파는", "나르는", "만드는", "닦는")
TABLE = (
    "data=table", "data.path=train.csv", "classification=from_data", "data.level=null", "data.cutoff=0", "augment=none",
    "data.columns.workplace=null", "data.train_share=0.8", "data.validation=0.4",
)  # fmt: skip


def rows(count: int, seed: int, shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)) -> pd.DataFrame:
    """Return rows whose task names a thing and a verb; one in ten has another thing's code."""
    random = np.random.default_rng(seed)
    things = random.choice(list(KINDS), count, p=shares)
    codes = np.where(
        random.random(count) < 0.1, random.choice(list(KINDS.values()), count), [KINDS[one] for one in things]
    )
    tasks = [f"{thing} {random.choice(VERBS)} 일 {random.choice(VERBS)}" for thing in things]
    return pd.DataFrame(
        {"id": range(count), "position": random.choice(["직원", ""], count), "task": tasks, "code": codes}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("drift")
    rows(700, 1).to_csv(folder / "train.csv", index=False)
    words = [f"data.path={folder / 'train.csv'}" if word.startswith("data.path") else word for word in TABLE]
    assert command("train", "model=linear", *words, f"run_dir={folder / 'run'}") == 0
    return folder


def drift(made: Path, *words: str) -> int:
    return command("drift", f"run={made / 'run'}", "exchanges=199", *words)


def load(name: str) -> Any:
    return json.loads(Path(name).read_text(encoding="utf-8"))


def test_a_file_like_the_held_rows_and_one_with_other_groups(
    made: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows(300, 2).drop(columns="code").to_csv("same.csv", index=False)
    other = rows(300, 3, (0.7, 0.1, 0.1, 0.1)).assign(position="")
    other.loc[0, "task"] += " 甲乙"
    pd.concat([other, other[:2].assign(task="")]).to_csv("other.csv", index=False)
    assert drift(made, "input=same.csv", "output=same") == 0
    assert "verdict: no difference found" in capfd.readouterr().out
    assert drift(made, "input=other.csv", "output=other") == 0
    same, found = load("same/drift.json"), load("other/drift.json")
    assert same["differs"] == [] and set(found["differs"]) >= {"major groups", "codes", "empty position"}
    assert (found["rows"], found["rows_invalid"], found["rows_compared"]) == (302, 2, 300)
    tests = {one["name"]: one for one in found["tests"]}
    assert set(tests) == {
        "characters", "words", "unknown n-grams", "empty position", "confidence", "major groups", "codes",
    }  # fmt: skip
    assert tests["empty position"]["file"] == 1 and 0.3 < tests["empty position"]["held"] < 0.7
    assert tests["characters"]["file"] < tests["characters"]["held"]
    first = found["groups"][0]
    assert first["code"] == "100" and first["file"] - first["held"] > 0.3 and first["low"] > 0.2
    assert found["held_rows"] == same["held_rows"] > 80
    said = capfd.readouterr().out
    assert "100" in said and not any(thing in said for thing in KINDS)  # no answers
    assert sum(found["decisions"].values()) == 302


def test_texts_are_left_out_if_the_data_are_gone(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "run", "run")
    config = Path("run", "config.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("train.csv", "gone.csv"), encoding="utf-8")
    rows(60, 2).drop(columns="code").to_csv("new.csv", index=False)
    assert command("drift", "run=run", "input=new.csv", "output=out", "exchanges=199") == 0
    assert "Texts are not compared" in "".join(capfd.readouterr())
    assert [one["name"] for one in load("out/drift.json")["tests"]] == ["confidence", "major groups", "codes"]


def test_an_encoder_has_tokens(here: Path) -> None:
    rows(200, 1).to_csv("train.csv", index=False)
    words = (*FEW_STEPS[1:], "trainer.max_epochs=1", "tokenizer.vocab_size=100", "logger=[]", "svm_check=0")
    assert command("train", *TABLE, *words, "run_dir=run", "cache=cache") == 0
    rows(50, 2).drop(columns="code").assign(task="빵 굽는 甲").to_csv("new.csv", index=False)
    assert command("drift", "run=run", "input=new.csv", "output=out", "exchanges=199") == 0
    tests = {one["name"]: one for one in load("out/drift.json")["tests"]}
    assert tests["tokens"]["held"] > 4 and tests["unknown tokens"]["file"] > 0.05 > tests["unknown tokens"]["held"]


def test_an_audit_sample_is_reviewed_and_gives_the_error(
    made: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new = rows(500, 4)
    new.drop(columns="code").to_csv("new.csv", index=False)
    words = ("input=new.csv", "sample=audit.csv", "half_width=0.06", "triage.target_error=0.3")
    assert drift(made, *words) == 0 and drift(made, *words) == 1
    assert "audit.csv exists" in capfd.readouterr().err
    run = f"run={made / 'run'}"
    assert command("predict", run, "input=new.csv", "output=coded.csv", "triage.target_error=0.3") == 0
    coded = pd.read_csv("coded.csv", dtype=str, keep_default_na=False).set_index("id")
    sample = pd.read_csv("audit.csv", dtype=str, keep_default_na=False)
    shared = [name for name in coded.columns if name in sample]
    assert {"decision", "code_1", "task"} <= set(shared)
    pd.testing.assert_frame_equal(sample.set_index("id")[shared], coded.loc[sample["id"], shared])
    assert set(sample["decision"]) == {"accept"}
    accepted = coded[coded["decision"] == "accept"]
    strata = accepted["code_1"].str[0].value_counts()
    assert sample.groupby("audit_stratum")["audit_rows"].first().astype(int).to_dict() == {
        f"accept {code}": count for code, count in strata.items()
    }
    assert set(sample["audit_strata"]) == {str(len(strata))}
    note = load("audit.csv.json")
    assert set(sample["audit_target"]) == {"0.3"} and sample["audit_model"].nunique() == 1
    assert note["audit"]["accept"] == {
        "rows": len(accepted), "sampled": len(sample), "expected_error": pytest.approx(0.3, abs=0.15),
    }  # fmt: skip

    begin_review(made / "run", "audit.csv")
    assert command("review", run, "input=audit.csv", "export=open.csv") == 0
    assert drift(made, "audited=open.csv") == 2  # exchanges is not read
    again = ("drift", run, "triage.target_error=0.3")
    assert command(*again, "audited=open.csv") == 0
    said = capfd.readouterr().out
    assert "verdict: open" in said and "unclear rows first" in said

    reviewed = pd.read_csv("open.csv", dtype=str, keep_default_na=False)
    truth = new.assign(id=new["id"].astype(str)).set_index("id")["code"]
    reviewed["reviewed_code"] = truth.loc[reviewed["id"]].to_numpy()
    reviewed.to_csv("reviewed.csv", index=False)
    wrong = (reviewed["reviewed_code"] != reviewed["code_1"]).sum()
    assert command(*again, "audited=reviewed.csv") == 0
    said = capfd.readouterr().out
    assert f"{len(reviewed)} of {len(reviewed)} sampled rows reviewed, {wrong} wrong" in said
    assert "verdict: kept" in said
    reviewed.assign(reviewed_code=reviewed["code_1"].map(OTHER)).to_csv("wrong.csv", index=False)
    assert command(*again, "audited=wrong.csv") == 0
    said = capfd.readouterr()
    assert "verdict: not kept" in said.out and "counted as wrong" not in said.err
    reviewed.assign(reviewed_code=[" 999", *reviewed["code_1"][1:]]).to_csv("strange.csv", index=False)
    assert command(*again, "audited=strange.csv") == 0
    said = capfd.readouterr()
    assert "1 row with codes that the run does not have, counted as wrong: '999'" in said.out + said.err
    assert f"{len(reviewed)} sampled rows reviewed, 1 wrong" in said.out

    least = strata.index[-1]
    for change, message in (
        (reviewed[1:], "rows, and the sample has"),
        (
            reviewed[reviewed["code_1"].str[0] != least],
            f"of {len(strata) - 1} strata, and the sample has {len(strata)}",
        ),
        (reviewed[:0], "has no rows"),
        (reviewed.drop(columns="audit_strata"), "has no column 'audit_strata'"),
        (reviewed.assign(audit_strata="4.5"), "'audit_strata': not one whole number"),
        (reviewed.assign(code_1="999"), "the run does not have '999'"),
        (reviewed.assign(audit_stratum="x"), "is no stratum"),
        (reviewed.assign(audit_rows="many"), "not one whole number"),
        (reviewed.drop(columns="reviewed_code"), "has no column 'reviewed_code'"),
        (reviewed.assign(audit_model="sha256:0"), "'audit_model'"),
        (reviewed.assign(audit_target="0.2"), "'audit_target': the sample was made for '0.2'"),
    ):
        change.to_csv("bad.csv", index=False)
        assert command(*again, "audited=bad.csv") == 1
        assert message in capfd.readouterr().err
    for target in ((), ("triage.target_error=0.01",)):
        assert command("drift", run, *target, "audited=reviewed.csv") == 1
        assert "'audit_target': the sample was made for '0.3'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "give input=FILE"),
        (("input=a.csv", "audited=b.csv"), 2, "give input=FILE"),
        (("input=a.csv", "half_width=0.1"), 2, "without sample=FILE"),
        (("input=a.csv", "sample=s.doc"), 2, "write one of"),
        (("input=a.csv", "sample=a.csv"), 2, "is an input"),
        (("input=a.csv", "output=one.csv"), 2, "output=one.csv: is a file. Name a folder."),
        (("input=a.csv", "decisions=[take]", "sample=s.csv"), 2, "decisions=take"),
        (("input=a.csv", "decisions=[]", "sample=s.csv"), 2, "at least one decision"),
        (("input=a.csv", "decisions=[back off]", "sample=s.csv"), 2, "backs off no rows"),
        (("input=a.csv", "triage.threshold=1", "sample=s.csv"), 1, "or a lower triage.threshold"),
        (("input=audit_rows.csv", "sample=s.csv"), 1, "already has columns 'audit_rows'"),
        (("input=a.csv", "exchanges=199", "triage.confidence=0.99"), 2, "exchanges=199: too few"),
        (("input=b.csv",), 1, "b.csv: no such input file"),
        (("input=empty.csv",), 1, "empty.csv: 0 rows with text"),
        (("input=one.csv",), 1, "one.csv: 1 row with text"),
        (("input=a.csv", "columns.task=work"), 1, "has no column 'work'"),
        (("input=a.csv", "triage.target_error=0.1", "triage.threshold=0.5"), 2, "triage.threshold"),
    ],
)
def test_wrong_commands(
    words: tuple[str, ...], code: int, said: str, made: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows(20, 2).to_csv("a.csv", index=False)
    rows(20, 2).assign(audit_rows=1).to_csv("audit_rows.csv", index=False)
    pd.DataFrame({"position": ["", "1"], "task": ["", "-"]}).to_csv("empty.csv", index=False)
    rows(1, 2).to_csv("one.csv", index=False)
    assert command("drift", f"run={made / 'run'}", *words) == code
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["a.csv", "audit_rows.csv", "empty.csv", "one.csv"]


def test_a_sample_that_cannot_be_drawn_writes_nothing(
    made: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows(20, 2).to_csv("a.csv", index=False)
    assert drift(made, "input=a.csv", "output=out", "sample=s.csv", "triage.threshold=1") == 1
    assert "verdict:" in capfd.readouterr().out
    assert [path.name for path in here.iterdir()] == ["a.csv"]


def test_a_missing_decision_is_noticed(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows(300, 2).to_csv("a.csv", index=False)
    words = ("input=a.csv", "sample=s.csv", "decisions=[accept,choose]", "triage.threshold=0.92")
    assert drift(made, *words) == 0
    sample = pd.read_csv("s.csv", dtype=str, keep_default_na=False)
    sample.assign(reviewed_code=sample["code_1"])[sample["decision"] == "accept"].to_csv("reviewed.csv", index=False)
    assert command("drift", f"run={made / 'run'}", "audited=reviewed.csv") == 1
    assert "Use the whole sample" in capfd.readouterr().err


def test_the_next_commands_can_be_pasted(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "run", "my run (1)")
    rows(100, 2).to_csv("a.csv", index=False)
    words = ("run=my run (1)", "input=a.csv", "sample=audit 1.csv", "triage.confidence=0.9", "exchanges=199")
    assert command("drift", *words) == 0
    lines = [shlex.split(line)[1:] for line in capfd.readouterr().out.splitlines() if line.startswith("kjcm ")]
    assert lines == [
        ["review", "run=my run (1)", "input=audit 1.csv", "decisions=[accept]"],
        ["review", "run=my run (1)", "input=audit 1.csv", "export=reviewed.csv"],
        ["drift", "run=my run (1)", "audited=reviewed.csv", "triage.confidence=0.9"],
    ]
    begin_review(made / "run", "audit 1.csv")
    assert command(*lines[1]) == 0 and command(*lines[2]) == 0


def test_held_out_rows_are_sampled_too(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(60, 2).to_csv("a.csv", index=False)
    assert drift(made, "input=a.csv", "output=all") == 0
    monkeypatch.setattr("kjcm.drift.rows.MOST", 40)
    monkeypatch.setattr("kjcm.drift.drift.MOST", 40)
    assert drift(made, "input=a.csv", "output=some") == 0
    whole, found = load("all/drift.json"), load("some/drift.json")
    assert found["held_rows"] == whole["held_rows"] == whole["held_rows_compared"] > 80
    assert (found["held_rows_compared"], found["rows_compared"]) == (40, 40)
    assert found["accepted"] == whole["accepted"]


def test_one_held_out_row_is_too_few(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "run", "run")
    rows(20, 2).to_csv("a.csv", index=False)
    settings = load_settings(Path("run", "model"))
    file = Path("run", "model", HELD)
    held = load_scored(file, len(settings.classes), settings.classes_hash)
    save_scored(file, held.of(np.arange(len(held.labels)) < 1), settings.classes_hash)
    assert command("drift", "run=run", "input=a.csv") == 1
    assert "1 held-out row; at least 2" in capfd.readouterr().err


def test_a_run_without_held_rows_promises_nothing(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "run", "run")
    for name in ("calibration.json", "triage.safetensors"):
        Path("run", "model", name).unlink()
    rows(20, 2).to_csv("a.csv", index=False)
    assert command("drift", "run=run", "input=a.csv") == 1
    assert "data.validation=0.3" in capfd.readouterr().err
