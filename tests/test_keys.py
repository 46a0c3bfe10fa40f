"""Every key that a command takes counts: unknown ones, and known ones that it does not read, are refused by name."""

from itertools import chain
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from benchmarks import command as benchmarks
from kjcm.commands import COMMANDS
from kjcm.ensemble.command import as_training
from kjcm.errors import ConfigError
from kjcm.keys.checks import check, require_known
from kjcm.keys.composition import known_keys, register
from kjcm.keys.overrides import config_folder, for_hydra, with_first, with_list, with_text, word_key
from kjcm.keys.unread import OF_A_COMMAND, OF_ANY, Unread, require_read
from tests.conftest import ROOT, SMALL, command
from tests.test_commands_in_docs import PAGES_WITH_COMMANDS, arguments_of, blocks, gpu_commands

UNKNOWN = [
    ("train", "++trainer.max_epoch=1"), ("train", "+data.columns.x=a"),
    ("train", "++losses.alpha=1"),
    ("train", "+seeds={split: 1}"), ("predict", "+triage.beta=1"), ("predict", "topk=3"), ("runs", "+filter=a"),
    ("doctor", "++quick=true"),
    ("tune", "++sampler_sed=1"), ("benchmarks.train", "+step=3"), ("report", "run=x"),
]  # fmt: skip
UNREAD = [
    ("prepare", "data.reviewed=MISSING.csv"), ("prepare", "name=x"), ("prepare", "+data={batch_size: 3}"),
    ("baseline", "kind=majority C=2"), ("baseline", "data.batch_size=3"), ("baseline", "kind=majority seeds.svm=3"),
    ("train", "data=table preset.scale=1"), ("train", "data=table data.test_path=t.csv data.train_share=0.5"),
    ("train", "data.train_wave=5 data.train_share=0.5"), ("train", "data.folds=5 data.train_share=0.5"),
    ("train", "model=ensemble model.combine=average model.prior=0"), ("train", "model=ensemble augment=titles"),
    ("train", "model=nearest model.unseen=0.3"), ("tune", "tune=none model=nearest model.unseen=0.3"),
    ("train", "data.fold=1"), ("train", "data.inner_fold=1"), ("train", "data=table data.test_path=t.csv data.folds=5"),
    ("train", "engine=packed engine.block=3"),
    ("train", "model=distilkobert model.shape.n_layers=1"), ("train", "data.scale=1 preset.scale=1"),
    ("train", "tokenizer=kobert tokenizer.vocab_size=200"),
    ("evaluate", "run=r data=table data.test_path=t.csv data.level=2"), ("evaluate", "run=r trainer.max_epochs=3"),
    ("predict", "run=r input=i output=o columns.manages=boss"),
    ("predict", "run=r input=i output=o triage.threshold=.5 triage.target_error=.1"),
    ("predict", "run=r input=i output=o.PARQUET formulas=own"), ("predict", "run=r input=i output=o.sav formulas=all"),
    ("train", "data.higher_cutoff=20"), ("prepare", "data=table cutoff=100 data.higher_cutoff=20"),
    ("review", "run=r input=i export=o port=80"), ("review", "run=r input=i overwrite=true"),
    ("export", "run=r agreement=.5"), ("export", "run=r format=onnx-int8 tolerance=1"), ("reproduce", "sweep.sort=accuracy"),
    ("tune", "sweep.sort=accuracy"), ("tune", "sampler=random startup=3"), ("benchmarks.train", "trainer.max_epochs=3"),
    ("wandb_workspace", "out=a.json"), ("wandb_report", "sweep=runs out=a.json"),
    ("benchmarks.train", "logger=none"), ("benchmarks.prepare", "model.pooling=mean"),
]  # fmt: skip


def composed(name: str, words: list[str]) -> tuple[DictConfig, list[str]]:
    """Return a command's config as the command line makes it, and its overrides."""
    register()
    benchmarks.register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(name, overrides := for_hydra(name, words, swept=False)), overrides


def own_unread(name: str) -> tuple[Unread, ...]:
    """Return what a benchmark's command says that it does not read; of kjcm's commands kjcm.keys.unread says it."""
    return benchmarks.COMMANDS[name].unread if name in benchmarks.COMMANDS else ()


@pytest.mark.parametrize(("name", "word"), UNKNOWN, ids=lambda value: value)
def test_an_unknown_key_is_refused_however_it_is_written(name: str, word: str) -> None:
    with pytest.raises((ConfigError, HydraException)):
        require_known(composed(name, [word])[0])


def test_an_unknown_key_is_named_in_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for word in ("+trainer.max_epoch=1", "trainer.max_epoch=1", "trainer={max_epoch: 1}"):
        assert command("train", word) == 2
        error = capfd.readouterr().err
        assert "no key trainer.max_epoch. Near it are 'trainer.max_epochs'" in error and len(error.splitlines()) == 1
    assert command("train", "+hydra.foo=1") == 2 and "hydra.foo" in capfd.readouterr().err
    assert command("train", "-m", "seed=0,1", "+hydra.foo=1") == 2 and "hydra.foo" in capfd.readouterr().err
    assert command("train", "+seed=3") == 2 and "leave out the +" in capfd.readouterr().err
    assert not list(here.iterdir())


def test_every_unknown_key_is_named_five_at_most(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("losses=focal", "+trainer.max_epoch=1", "data={batches: 3}", "~qqq")
    for more in ((), ("-m", "seed=0,1")):
        assert command("train", *words, *more) == 2
        error = capfd.readouterr().err
        assert all(key in error for key in ("losses", "trainer.max_epoch ", "data.batches", "qqq"))
        assert len(error.splitlines()) == 1
    assert command("train", *(f"+q{number}=1" for number in range(7))) == 2
    error = capfd.readouterr().err
    assert [f"q{number}" in error for number in range(7)] == [True] * 5 + [False] * 2 and "2 more" in error


def test_every_unread_key_is_named(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("baseline", "kind=majority", "C=2", "data.batch_size=3") == 2
    error = capfd.readouterr().err
    assert "C=2" in error and "data.batch_size=3" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["los: focal", "trainer: {max_epoch: 3}", "param_groups: {decay: 0.9}", "data: {columns: {tesk: a}}"]
)
def test_an_unknown_key_of_an_experiment_file_is_refused(
    text: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\nname: mine\n{text}\n")
    assert command("train", "--config-dir", "conf", "experiment=mine") == 2
    error = capfd.readouterr().err
    assert "experiment/mine" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("printed", [("--cfg", "job"), ("-c=all", "--resolve"), ("--cfg=hydra",)])
def test_no_config_with_an_unknown_or_unread_key_is_printed(
    printed: tuple[str, ...], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, word in (("train", "+losses=focal"), ("prepare", "data.reviewed=MISSING.csv"), ("train", "+hydra.foo=1")):
        assert command(name, word, *printed) == 2
        out, error = capfd.readouterr()
        assert not out and len(error.splitlines()) == 1
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\nname: mine\n")
    assert command("train", "--config-dir", "conf", "experiment=mine", "--cfg", "job", "-p", "seed") == 0
    assert capfd.readouterr().out.strip() == "7"
    for name in COMMANDS:
        assert command(*name.split(), "--cfg", "job") == 0, name  # keys without a value are shown as ???
    assert "run: ???" in capfd.readouterr().out and [path.name for path in here.iterdir()] == ["conf"]


@pytest.mark.parametrize("printed", [(), ("--cfg", "job")])
def test_a_reference_to_nothing_is_refused(
    printed: tuple[str, ...], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ("predict", "run=${nothing}", "input=a", "output=b"),
        ("train", "seed=${seeds.nothing}"),
        ("train", "name=${"),
    ):
        assert command(*words, *printed) == 2
        error = capfd.readouterr().err
        assert "fault of kjcm" not in error and len(error.splitlines()) == 1


def test_a_key_of_a_group_that_is_left_out_names_the_group(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for word in ("data.level=2", "data.path=x.csv", "data.columns.code=c"):
        assert command("evaluate", "run=run", word) == 2
        assert "add data=" in capfd.readouterr().err


def test_an_unknown_key_is_refused_in_a_sweep_and_in_a_space(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("train", "-m", "seed=0,1", "+losses=focal") == 2
    assert "no key losses" in capfd.readouterr().err
    for key in ("losses", "param_groups.decay"):
        assert command("tune", *SMALL[:-2], "tune=none", f"+space.{key}=[1,2]") == 2
        error = capfd.readouterr().err
        assert f"no key {key}" in error and len(error.splitlines()) == 1
    assert not list(here.glob("runs/[!.]*"))


def test_open_nodes_stay_open() -> None:
    words = {"train": "+model.shape.dropout=0.2", "tune": "+space.optim.warmup=[0.0,0.1]", "runs": "where={a.b: 1}"}
    for name, word in words.items():
        check(composed(name, [word])[0])


@pytest.mark.parametrize(("name", "line"), UNREAD, ids=lambda value: value)
def test_a_key_that_a_command_does_not_read_is_refused(name: str, line: str) -> None:
    words = line.split() if "{" not in line else [line]
    cfg, overrides = composed(name, words)
    check(cfg)
    with pytest.raises(ConfigError, match=r"does not read") as error:
        require_read(name, cfg, overrides, own_unread(name))
    assert error.value.exit_code == 2


def test_what_counts_is_not_refused(here: Path) -> None:
    for name, line in (
        ("train", "preset.scale=0.2"), ("train", "data=table data.path=a.csv data.train_share=0.5"), ("baseline", "C=2"),
        ("train", "data.folds=5 data.fold=4"), ("train", "data.inner_folds=5 data.inner_fold=4"),
        ("predict", "run=r input=i output=o columns.manages=boss triage.managers=column"), ("export", "run=r tolerance=1"),
        ("predict", "run=r input=i output=o.TSV formulas=all"), ("train", "cutoff=higher data.higher_cutoff=20"),
        ("reproduce", "data.higher_cutoff=20"), ("tune", "+space.cutoff=[10,higher] data.higher_cutoff=20"),
        ("review", "run=r input=i port=80"), ("tune", "startup=3"), ("train", "engine=captured engine.block=3"),
        ("train", "model.pretrained=folder model.shape=null"), ("train", "experiment=best_nearest model.unseen=0.3"),
        ("train", "model=nearest augment=manual model.unseen=0.3"), ("train", "model=nearest"),
        ("train", "model=nearest +augment.rows._target_=a.b model.unseen=0.3"),
        ("tune", "tune=none model=nearest +space.augment=[none,titles] model.unseen=0.3"),
    ):  # fmt: skip
        require_read(name, *composed(name, line.split()))


def test_keys_that_go_unread_are_keys_of_their_command() -> None:
    for name, entries in {**OF_A_COMMAND, **{one: own_unread(one) for one in benchmarks.COMMANDS}}.items():
        words = ["data=table"] if name == "evaluate" else []
        known = {*known_keys(composed(name, words)[0])}
        assert {key for one in entries for key in one.keys} <= known, name


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_of_a_page_sets_a_key_that_goes_unread(page: Path) -> None:
    keys = {key for one in (*OF_ANY, *chain(*OF_A_COMMAND.values())) for key in one.keys}
    for block in blocks(page):
        for line in block:
            words = arguments_of(line)
            if not {"-m", "--config-dir"} & {*words} and keys & set(map(word_key, words)):
                require_heeded(words)


def test_no_command_of_the_gpu_script_sets_a_key_that_goes_unread(here: Path) -> None:
    for words in gpu_commands(here):
        if "-m" not in words:
            require_heeded(words)


def require_heeded(words: list[str]) -> None:
    """Raise ConfigError if a command, `kjcm` left out, sets a key that is unknown or that it does not read."""
    name, *rest = ["train", *as_training(words[1:])] if words[0] == "ensemble" else words
    if name in ("wandb", "classification"):
        name, rest = f"{name}_{rest[0]}", with_first("input", rest[1:])
    elif name == "team":
        name, rest = f"{name}_{rest[0]}", rest[1:]
    elif name == "diff":
        rest = with_list("compare", rest)
    elif name == "search":
        rest = with_text("query", rest)
    cfg, overrides = composed(name, rest)
    require_known(cfg)
    require_read(name, cfg, overrides, own_unread(name))


def test_a_path_of_one_command_may_be_a_list_of_another() -> None:
    assert for_hydra("diff", ["compare=[a,b]"], swept=False) == ["compare=[a,b]"]


def test_overrides_are_read_as_they_were_typed() -> None:
    for word, value in (
        ("data.columns.task=하는 일(직무)", "하는 일(직무)"), ("data.columns.task=job (main)", "job (main)"),
        ("data.columns.task=직업코드[KSCO]", "직업코드[KSCO]"), ("name=a=b", "a=b"), ("name=it's", "it's"),
        ("name=[최종] 답", "[최종] 답"),
        ("name=a{b", "a{b"), ("name=100%", "100%"), ("name=직위/직책", "직위/직책"),
    ):  # fmt: skip
        made = for_hydra("train", [word], swept=False)
        assert OverridesParser.create().parse_override(made[0]).value() == value
