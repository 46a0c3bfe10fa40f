"""The door: help, what will run, misspelt keys, and one clear message for every kind of bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kjcm.keys.overrides import _quote_number, _quote_text
from tests.conftest import ROOT, SMALL, Run, command

GROUPS = {
    "data": "synthetic", "cutoff": "10", "augment": "titles", "classification": "ksco7", "tokenizer": "trained",
    "model": "tiny", "optim": "adam", "trainer": "cpu", "logger": "csv", "preset": "cpu", "experiment": "k_jcm",
}  # fmt: skip
KEYS = (
    "data.colums.code", "data.columns.kode", "augment.title", "classification.file", "tokenizer.vocabsize", "model.pretraind",
    "optim.learning_rate", "trainer.epochs", "logger.wandb.projekt", "preset.scal", "seeds.split", "sed",
)  # fmt: skip


@pytest.mark.parametrize("line", ["--help", "train --help", "train --cfg job", "predict --help"])
def test_help_and_config_come_quickly_and_import_no_torch(line: str) -> None:
    """Two seconds are the promise on a quiet machine; what makes them is that nothing heavy is imported."""
    script = (
        "import sys; from kjcm.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'lightning', 'transformers', 'sklearn', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = line.split()
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = {"--help": "kjcm", "--cfg": "data:"}
    assert all(text in done.stdout for flag, text in shown.items() if flag in words)


def test_help_shows_the_keys_of_this_very_command(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    for words, shown in (
        (
            ("experiment=model_4",),
            {"data.cutoff=${data.higher_cutoff}", "augment.titles=true", "data.scale=${preset.scale}"},
        ),
        (("data=table", "-m", "seed=0,1"), {"data.path=null", "seed=0"}),
        (("--config-dir", "conf", "experiment=mine"), {"name=mine"}),
    ):
        assert command("train", *words, "--help") == 0
        assert shown <= set(capfd.readouterr().out.split()), words
    assert command("train", "--config-dir", "nowhere", "--help") == 2
    for word in ("data.scal=1", "+nonsense=1"):
        assert command("train", word, "--help") == 2


def test_importing_kjcm_imports_nothing_heavy() -> None:
    script = "import sys, kjcm; assert not {'torch', 'hydra', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_number_names_a_choice(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("train", "cutoff=100", "--cfg", "job", "data.level=2") == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert shown["data"]["cutoff"] == 100 and shown["data"]["level"] == 2


def test_every_group_choice_composes() -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from kjcm.keys.checks import check
    from kjcm.keys.composition import register
    from kjcm.keys.overrides import config_folder

    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for group in GROUPS:
            for file in sorted((ROOT / "conf" / group).glob("*.yaml")):
                needed = ["classification.path=ksco8.tsv"] if file.stem == "ksco8" else []
                cfg = compose("train", [f"{group}='{file.stem}'", *needed])
                check(cfg)
                assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_key_fails_at_compose_and_names_itself(
    key: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("train", f"{key}=1") == 2
    assert key.rpartition(".")[2] in capfd.readouterr().err
    assert not list(here.iterdir())


def test_what_hydra_does_not_understand_is_told_in_a_line_or_two(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for word, said in (
        ("sed=1", "Near it are 'seed'"),
        ("data.scal=1", "'data.scale'"),
        ("optim.lr=abc", "optim: torch.optim.Adam refuses its arguments"),
    ):
        assert command("train", word) == 2
        error = capfd.readouterr().err
        assert said in error and len(error.splitlines()) <= 2 and "+" not in error
    for word in ("preset=null", "cutoff=1.5"):
        assert command("train", "model=tiny", word) == 2
        assert capfd.readouterr().err.startswith(f"kjcm train: '{word}': a group takes one of its choices")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), "`kjcm train`"),
        (("train", "--epochs", "3"), "trainer.max_epochs=VALUE"),
        (("train", "seed=0", "1"), "'seed=0 1'"),
        (("train", "seed", "=", "0"), "no KEY=VALUE"),
        (("train", "=3"), "no KEY=VALUE"),
        (("train", "data.columns.task=[일]"), "\"data.columns.task='[일]'\""),
        (("train", "name=a, b"), "\"name='a, b'\""),
        (("train", "data.path=x.csv"), "add data=table"),
        (("train", "data=table", "data.wave5=x.csv"), "add data=kwcs"),
        (("train", "logger.wandb.project=x"), "add logger=wandb"),
        (("train", "logger=wandb", "logger.project=x"), "logger.wandb.project"),
        (("train", "logger=wandb", "+logger.project=x"), "logger.wandb.project"),
        (("train", "logger=wandb", "+logger.wandb.projekt=x"), "logger.wandb.project"),
        (("train", "+logger.csv.file=x"), "logger.csv.file"),
        (("train", "+logger.wandb={project: x}"), "logger=[csv,wandb]"),
        (("train", "+logger.mine={lr: 1}"), "logger.mine._target_"),
        (("train", "trainer=cpuu"), "trainer=cpu?"),
    ],
)
def test_a_slip_of_the_command_line_is_answered_by_what_to_write(
    words: tuple[str, ...], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == 2
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and not list(here.iterdir())


def test_a_missing_gpu_is_reported_before_any_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    missing = ("data=table", "data.path=none.csv")
    for words in (
        ("train", "trainer=gpu", *missing),
        ("tune", "trainer=gpu", *missing),
        ("benchmarks.train", "trainer=gpu", *missing),
        ("evaluate", "trainer=gpu", "run=none"),
        ("predict", "accelerator=gpu", "run=none", "input=none.csv", "output=o.csv"),
    ):
        assert command(*words) == 2
        assert "there is no GPU" in capfd.readouterr().err


def test_hangul_paths_are_found_in_either_unicode_form(here: Path) -> None:
    import unicodedata

    answers().to_csv(unicodedata.normalize("NFD", "조사.csv"), index=False)
    answers().to_csv(unicodedata.normalize("NFC", "답.csv"), index=False)
    for number, name in enumerate((unicodedata.normalize("NFC", "조사.csv"), unicodedata.normalize("NFD", "답.csv"))):
        assert command("prepare", "data=table", f"data.path={name}", f"out={number}") == 0


@pytest.mark.parametrize(
    "word",
    [
        "tags=['']", "tags=[' ']", f"tags=[{'a' * 65}]", "project=a/b", "project=a#b", "project=a?b", "project=''",
        f"project={'a' * 129}", "entity=a/b", "entity=''", f"group={'a' * 129}", "group=''", f"name={'a' * 116}",
    ],
)  # fmt: skip
def test_names_that_wandb_refuses_are_refused_before_any_work(
    word: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "logger=wandb", word if word.startswith("name=") else f"logger.wandb.{word}") == 2
    assert word.partition("=")[0] in capfd.readouterr().err and not list(here.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sweep.dry_run=true",), "add -m"),
        (("sweep.retry=failed",), "add -m"),
        (("experiment=search",), "Add -m"),
        (("name=a/b",), "name=a/b: it names a folder"),
        (("name=' '",), "it names a folder"),
        (("name=..",), "it names a folder"),
    ],
)
def test_what_would_go_unheeded_or_astray_is_refused(
    words: tuple[str, ...], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("train", *SMALL, *words) == 2
    assert said in capfd.readouterr().err and not list(here.iterdir())


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("-m", "-m"),
        ("where={name: 실험 가, state: failed}", "where={name: '실험 가', state: failed}"),
        ("logger.wandb.tags=[가,b]", "logger.wandb.tags=['가',b]"),
        ("runs=결과 (1)", "runs='결과 (1)'"),
        ("runs=a,b", "runs='a,b'"),
        ("input=조사(5차).csv", "input='조사(5차).csv'"),
        ("data.columns.task=하는 일", "data.columns.task='하는 일'"),
        ("where={state: failed}", "where={state: failed}"),
        ("storage=sqlite:///결과.db", "storage='sqlite:///결과.db'"),
        ("data.columns.task=직업: 하는 일", "data.columns.task='직업: 하는 일'"),
        ("run=runs/가:1", "run='runs/가:1'"),
        ("data.path=가.txt,나,c", "data.path='가.txt','나',c"),
        ("name='가'", "name='가'"),
    ],
)
def test_what_needs_quotes_gets_them(word: str, quoted: str) -> None:
    assert _quote_text(word, swept=False) == quoted


def test_in_a_sweep_marks_are_the_sweeps() -> None:
    assert _quote_text("run=가,b", swept=True) == "run='가',b"
    assert _quote_text("run=glob(*)", swept=True) == "run=glob(*)"
    assert _quote_text("runs=결과 (1)", swept=True) == "runs='결과 (1)'"


def test_a_job_of_the_search_is_a_run_too(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = (
        "data.batch_size=32",
        "optim.lr=0.001",
        "trainer.max_epochs=1",
    )  # as a sweep starts a job of several processes
    assert command("train", *SMALL, "experiment=search", *job, "run_dir=run") == 0
    assert (here / "run" / "DONE").is_file()


def test_a_groups_numbers_may_be_a_choice() -> None:
    assert _quote_number("cutoff=choice(10,100)") == _quote_number("cutoff=10,100") == 'cutoff="10","100"'
    assert _quote_number("seed=10") == "seed=10"


@pytest.mark.parametrize("group", GROUPS)
def test_a_misspelt_choice_fails_and_names_itself(group: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("train", f"{group}=nonesuch") == 2
    assert "nonesuch" in capfd.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "data.validation=1.5", "data.level=7", "data.cutoff=-1", "param_groups.layer_decay=0", "data.scale=0",
        "seed=-1", "tokenizer.path=x", "model.pooling=max", "data.columns.weight=w", "trainer.precision=16-mixed",
        "model.shape.n_heads=3", "trainer.accelerator=gpuu",
    ],
)  # fmt: skip
def test_values_out_of_range_stop_with_exit_code_2(words: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("train", words) == 2
    error = capfd.readouterr().err
    assert words.partition("=")[0].rpartition(".")[2] in error and "Traceback" not in error
    assert not (here / "runs").exists() or not list(here.glob("runs/*/*/DONE"))


def answers(rows: int = 60) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": range(rows),
            "workplace": "회사",
            "position": "",
            "task": [f"{'빵 굽는' if i % 2 else '차 고치는'} 일 {i}" for i in range(rows)],
            "code": ["710" if i % 2 else "751" for i in range(rows)],
        }
    )


def broken(name: str, folder: Path) -> list[str]:
    """Write the bad input `name` and return the words that run on it."""
    frame = answers()
    data, words = folder / "in.csv", []
    if name == "missing file":
        return ["data.path=nowhere.csv"]
    if name == "missing column":
        frame = frame.drop(columns="code")
    elif name == "unknown code":
        frame["code"] = frame["code"].where(frame.index != 7, "000")
    elif name == "duplicate ids":
        frame["id"] = frame["id"].where(frame.index != 7, 3)
    elif name == "empty text":
        frame.loc[7, ["workplace", "task"]] = ""
    elif name == "one class only":
        frame["code"] = "710"
    elif name == "everything below the cutoff":
        words = ["data.cutoff=1000"]
    elif name == "code above the level":
        frame["code"] = frame["code"].where(frame.index != 7, "75")
    elif name == "wrong encoding":
        data.write_bytes(b"id,workplace,position,task,code\n1," + b"\xff\xfe\xff,,x,710\n")
        return [f"data.path={data}"]
    elif name == "unknown kind":
        data = folder / "in.pdf"
        data.write_text("x")
        return [f"data.path={data}"]
    elif name == "empty file":
        data.write_text("")
        return [f"data.path={data}"]
    elif name == "broken xlsx":
        data = folder / "in.xlsx"
        data.write_text("no workbook")
        return [f"data.path={data}"]
    frame.to_csv(data, index=False)
    return [f"data.path={data}", *words]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing file", ["nowhere.csv", "no such file"]),
        ("missing column", ["in.csv", "'code'", "data.columns.code"]),
        ("unknown code", ["in.csv", "'code'", "'000'", "9", "data.drop_invalid=true"]),
        ("duplicate ids", ["in.csv", "'id'", "'3'", "data.drop_invalid=true"]),
        ("empty text", ["in.csv", "'task'", "'7'", "data.drop_invalid=true"]),
        ("one class only", ["710", "one class", "data.cutoff"]),
        ("everything below the cutoff", ["data.cutoff=1000", "Lower data.cutoff"]),
        ("code above the level", ["in.csv", "'75'", "data.level"]),
        ("wrong encoding", ["in.csv", "line 2", "UTF-8"]),
        ("unknown kind", ["in.pdf", ".pdf", ".parquet"]),
        ("empty file", ["in.csv", "empty"]),
        ("broken xlsx", ["in.xlsx", "not a readable"]),
    ],
)
def test_bad_input_gets_one_message_and_leaves_nothing_done(
    name: str, says: list[str], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = broken(name, here)
    assert command("train", "data=table", *words, *SMALL[1:], "run_dir=run") in (1, 2)
    out, error = capfd.readouterr()
    assert all(text in error for text in says), error
    assert "Traceback" not in out + error and len(error.strip().splitlines()) == 1
    assert not (here / "run").exists()  # nothing half-written: the corrected command finds the folder free


def test_a_bad_input_does_not_cost_the_run_that_it_would_overwrite(finished: Path, here: Path) -> None:
    import shutil

    run = here / "run"
    shutil.copytree(finished, run)
    words = ("data=table", "data.path=typo.csv", "run_dir=run", "overwrite=true")
    assert command("train", *SMALL[1:], *words) == 1
    assert (run / "DONE").is_file() and (run / "model" / "model.safetensors").is_file()


def test_two_processes_do_not_train_one_run(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from kjcm.run_folder.lease import leased

    (here / "run").mkdir()
    with leased(here / "run"):
        assert command("train", *SMALL, "run_dir=run") == 1
    assert f"process {os.getpid()} on" in capfd.readouterr().err
    assert command("train", *SMALL, "trainer.max_epochs=1", "run_dir=run") == 0  # a lease alone is no other run


def test_prepare_touches_nothing_that_is_not_its_own(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "mine" / "twin").mkdir(parents=True)
    (here / "mine" / "twin" / "thesis.txt").write_text("years of work")
    assert command("prepare", "data.scale=0.02", "out=mine") == 1
    assert command("prepare", "data.scale=0.02", "out=mine", "overwrite=true") == 1
    assert (here / "mine" / "twin" / "thesis.txt").read_text() == "years of work"
    assert "twin" in capfd.readouterr().err


def test_drop_invalid_counts_rows_out(here: Path) -> None:
    frame = answers()
    frame.loc[7, ["workplace", "task"]] = ""
    frame.loc[8, ["workplace", "position"]] = ["=1+1", ""]
    frame["code"] = frame["code"].where(frame.index != 8, "000")
    frame.to_csv("in.csv", index=False)
    assert command("prepare", "data=table", "data.path=in.csv", "data.drop_invalid=true", "out=out") == 0
    left = pd.read_csv("out/left.csv", dtype=str)
    assert left["reason"].tolist() == ["empty text", "unknown code"] and left["id"].tolist() == ["7", "8"]
    assert left["text"][1].startswith("'=1+1")  # no formula for a spreadsheet program
    flow = yaml.safe_load((here / "out" / "cohort.json").read_text())["flow"]
    assert (flow["read"], flow["invalid"], flow["cohort"]) == (60, 2, 58)


def test_output_that_exists_is_not_overwritten(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answers(3).to_csv("in.csv", index=False)
    (here / "out.csv").write_text("mine")
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv") == 1
    assert "overwrite=true" in capfd.readouterr().err and (here / "out.csv").read_text() == "mine"
    assert command("prepare", "data.scale=0.02", "out=cohort") == 0
    before = (here / "cohort" / "cohort.json").read_bytes()
    assert command("prepare", "data.scale=0.03", "out=cohort") == 1
    assert (here / "cohort" / "cohort.json").read_bytes() == before


def test_predict_says_which_key_is_wrong_and_leaves_what_is_there(
    finished: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers(4).to_csv("in.csv", index=False)
    (here / "c.csv.json").write_text("mine")
    assert command("predict", f"run={finished}", "input=in.csv", "output=c.csv") == 1
    assert command("predict", f"run={finished}", "input=in.csv") == 2
    assert command("predict", f"run={finished}", "input=in.csv", "output=b.csv", "columns.task=job") == 1
    assert "columns.task" in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["c.csv.json", "in.csv"]


def test_an_unexpected_error_in_one_job_lets_the_others_go_on(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answers().to_csv("good.csv", index=False)
    words = ("data=table", "data.path=bad.csv,good.csv", *SMALL[1:], "trainer.max_epochs=1")
    assert command("train", "-m", *words) == 1
    assert "bad.csv" in capfd.readouterr().err
    assert len(list(here.glob("runs/*/*/DONE"))) == 1


def test_debug_shows_the_traceback(here: Path, kjcm: Run) -> None:
    done = kjcm("train", "data=table", "data.path=nowhere.csv", "--debug", code=1)
    assert "Traceback" in done.stderr and "nowhere.csv" in done.stderr


def test_damaged_runs_are_refused(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import shutil

    answers(3).to_csv("in.csv", index=False)

    def damaged(name: str, change: object) -> str:
        run = here / name.replace("/", "_")
        shutil.copytree(finished, run)
        data = (run / name).read_bytes()
        (run / name).write_bytes(change(data))  # type: ignore[operator]
        assert command("predict", f"run={run}", "input=in.csv", "output=out.csv") == 1
        error = capfd.readouterr().err
        assert "Traceback" not in error and not (here / "out.csv").exists()
        return error

    assert "damaged" in damaged("model/model.safetensors", lambda data: data[: len(data) // 2])
    assert "hash" in damaged(
        "model/kjcm.json", lambda data: data.replace(b'"111"', b'"112"', 1).replace(b'"710"', b'"719"', 1)
    )
    assert "damaged" in damaged("model/config.json", lambda data: data[:40])
    (here / "unfinished").mkdir()
    assert command("predict", "run=unfinished", "input=in.csv", "output=out.csv") == 1
    assert "not a finished run" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["model=distilkobert"], ["model=tiny", "tokenizer=kobert"]])
def test_without_a_network_the_message_says_what_to_give(
    words: list[str], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "data.scale=0.02", *words) == 1
    error = capfd.readouterr().err
    assert "tokenizer.path=" in error or "model.pretrained=" in error
    assert "Traceback" not in error


def test_doctor_says_what_works(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("doctor", "hub=false") == 0
    out = capfd.readouterr().out
    assert "trained tokenizer" in out and "equal to SentencePiece" in out and "offline" in out


def test_hangul_needs_no_quotes(here: Path) -> None:
    marked = ["조사(5차).csv", "가,나.csv", "[최종] 답.csv", "a(1),b.csv"]
    for name in ("조사 5차.csv", "가.csv", *marked):
        answers().to_csv(name, index=False)
    assert command("prepare", "data=table", "data.path=조사 5차.csv", "out=결과") == 0
    for number, name in enumerate(marked):
        assert command("prepare", "data=table", f"data.path={name}", f"out={number}") == 0
    assert (here / "결과" / "cohort.json").is_file()
    words = ("data=table", *SMALL[1:], "trainer.max_epochs=1")
    assert command("train", "-m", "data.path=조사 5차.csv,가.csv", *words, "sweep.dry_run=true") == 0
    assert command("prepare", "data=table", "data.path='가.csv'", "out=quoted") == 0
