"""The door: `kjcm <command> [hydra overrides]`. Nothing heavy is imported before a command is known."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kjcm import __version__
from kjcm.errors import Interrupted, of_the_system, some

# command -> (module and function, what it does, example)
COMMANDS = {
    "reproduce": (
        "kjcm.report.reproduce:reproduce",
        "train what is missing of the article's models, and report",
        "kjcm reproduce out=out/report",
    ),
    "report": (
        "kjcm.report.report:report",
        "finished runs to the article's tables, figures and one page",
        "kjcm report runs=runs out=out/report",
    ),
    "train": (
        "kjcm.study.train:train",
        "train and evaluate a model; -m sweeps",
        "kjcm train experiment=k_jcm",
    ),
    "tune": (
        "kjcm.tune.tune:tune",
        "search for hyperparameters on validation rows",
        "kjcm tune experiment=k_jcm trials=50",
    ),
    "runs": (
        "kjcm.study.runs:runs",
        "what became of all runs: a table, filtered, over seeds, as CSV",
        "kjcm runs group=seed sort=f1_weighted",
    ),
    "baseline": (
        "kjcm.study.baseline:baseline",
        "measure the largest groups or a linear SVM on the same rows",
        "kjcm baseline kind=svm",
    ),
    "evaluate": (
        "kjcm.study.evaluate:evaluate",
        "a finished run on its own or on other test rows",
        "kjcm evaluate run=RUN_DIR data=table data.test_path=FILE data.columns.code=ksco7",
    ),
    "triage": (
        "kjcm.coding.triage:triage",
        "what a run accepts under each target error, before anything is coded",
        "kjcm triage run=RUN_DIR",
    ),
    "predict": (
        "kjcm.coding.predict:predict",
        "code a file with a finished run",
        "kjcm predict run=RUN_DIR input=FILE output=FILE top_k=5",
    ),
    "review": (
        "kjcm.review.review:review",
        "a person settles what a coding left open, on a page of this machine",
        "kjcm review run=RUN_DIR input=CODED_FILE",
    ),
    "export": (
        "kjcm.coding.export:export",
        "a finished run's model as ONNX, checked on real rows",
        "kjcm export run=RUN_DIR format=onnx-int8",
    ),
    "prepare": (
        "kjcm.study.prepare:prepare",
        "the cohort alone, with its flow counts",
        "kjcm prepare data=kwcs data.wave5=FILE data.wave6=FILE data.crosswalk=FILE out=DIR",
    ),
    "bench train": (
        "kjcm.bench.train:bench_train",
        "time training beside Hugging Face's Trainer and a plain Lightning loop",
        "kjcm bench train out=out/bench/train",
    ),
    "bench predict": (
        "kjcm.bench.predict:bench_predict",
        "time coding beside Hugging Face's pipeline",
        "kjcm bench predict run=RUN_DIR input=FILE",
    ),
    "bench prepare": (
        "kjcm.bench.prepare:bench_prepare",
        "time survey file to tokens, with an empty cache and a filled one",
        "kjcm bench prepare data.scale=1",
    ),
    "doctor": (
        "kjcm.study.doctor:doctor",
        "what will work on this machine",
        "kjcm doctor",
    ),
}  # fmt: skip

SWEPT = ("train", "baseline")  # commands whose multiruns have a ledger: each job fills a run folder
NO_CHOICE = "Config group override"  # so begins the ValueError that Hydra raises for group=null or group=1.5
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}  # what makes a command one
PART = re.compile(r"[^\s\[\]{}(),:]+(?: +[^\s\[\]{}(),:]+)*")  # what stands between a value's marks
PLACES = ("runs", "run_dir", "cache", "out", "output", "run", "input")  # keys of one place each
FILE_NAME = re.compile(r"[^'\"{}]+\.(csv|tsv|txt|xlsx|parquet|z?sav|dta|sqlite)", re.I)

HELP = """kjcm {version}: free text to occupation codes

usage: kjcm COMMAND [KEY=VALUE ...] [-m] [--cfg job] [--debug]

commands:
{commands}

every choice is a config key, set as KEY=VALUE:
  kjcm COMMAND --help       groups, keys and defaults of a command
  kjcm COMMAND --cfg job    print what will run, and stop (with --resolve: every value)
  kjcm train -m seed=0,1,2  one run for each value
  --debug                   show the traceback of an error

examples:
{examples}
"""

COMMAND_HELP = """kjcm {command}: {purpose}

  {example}

Groups (choose with GROUP=NAME):

{groups}

Keys and their values now (override with KEY=VALUE; what each means stands in conf/ and docs/config.md):

$CONFIG"""


def config_folder() -> Path:
    """Return the folder of configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def main(argv: list[str] | None = None) -> None:
    """Run one command; the exit code is 0, or 1 (input, surroundings) or 2 (config) with one message on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    command, rest = _split(arguments)
    debug = "--debug" in rest
    try:
        code = run_command(command, [word for word in rest if word != "--debug"], debug)
    except KeyboardInterrupt:
        print("kjcm: interrupted; the same command goes on from what is saved.", file=sys.stderr)
        sys.exit(130)
    except Interrupted as leaving:
        if leaving.exit_code:  # the first of several processes speaks
            print(f"kjcm: {leaving}; what was done is saved, and the same command goes on.", file=sys.stderr)
        sys.exit(leaving.exit_code)
    if code:
        sys.exit(code)


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command, of one word or two, and the words after it; without a command, say which there are and stop."""
    for words in (1, 2):
        command = " ".join(arguments[:words])
        if command in COMMANDS:
            return command, arguments[words:]
    first, *rest = arguments
    several = [name for name in COMMANDS if name.startswith(f"{first} ")]
    if several and rest[:1] in (["-h"], ["--help"]):
        print("\n".join(f"kjcm {name}: {COMMANDS[name][1]}" for name in several))
        sys.exit(0)
    given = " ".join(arguments[:2]) if several else first
    print(f"kjcm: no command {given!r}; the commands are {', '.join(several or COMMANDS)}.", file=sys.stderr)
    sys.exit(2)


def run_command(command: str, arguments: list[str], debug: bool = False) -> int:
    """Run `command` through Hydra and return the exit code; its errors have been shown."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from kjcm import schema

    schema.register()
    target, purpose, example = COMMANDS[command]
    codes, multirun = [0], bool(MULTIRUN & set(arguments))

    def job(cfg: DictConfig) -> Any:
        # an error is kept here rather than raised, so that no traceback shows
        try:
            schema.check(cfg)
            if not multirun:
                _require_multirun(command, cfg)
            return _load(target)(cfg)
        except Exception as error:
            if debug:
                raise
            from kjcm.study.failures import tell

            codes.append(tell(f"kjcm {command}", error).exit_code)
            return None

    config = command.replace(" ", "_")
    text = COMMAND_HELP.format(command=command, purpose=purpose, example=example, groups=_groups(config))
    before = sys.argv
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra shall not print and exit
    words = [
        *(_quote_text(_quote_number(word), swept=multirun) for word in _checked(arguments)),
        f"hydra.help.template={schema.quoted(text)}",
        "hydra.help.app_name=kjcm",
    ]
    sys.argv = [before[0], *sorted(words, key=_is_flag)]  # argparse wants the overrides together
    run = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config)(job)
    try:
        if command in SWEPT and multirun:
            codes.append(_sweep(run, command, target, debug))
        else:
            run()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if debug or not (
            isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith(NO_CHOICE)
        ):
            raise
        print(f"kjcm {command}: {_said(error, config, arguments)}", file=sys.stderr, flush=True)
        codes.append(2)
    except OSError as error:  # as where Hydra's own folder cannot be made
        if debug:
            raise
        print(f"kjcm {command}: {of_the_system(error)}", file=sys.stderr, flush=True)
        codes.append(1)
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full
    return max(codes)


def _said(error: Exception, config: str, arguments: list[str]) -> str:
    """Return what Hydra says of words that make no config, without what would not help, and the keys that may be meant."""
    if str(error).startswith(NO_CHOICE):
        words = [word for word in arguments if _is_no_choice(word)]
        return f"{some(words)}: a group takes one of its choices (--help lists them). For its default leave it out."
    unhelpful = ("To append to your config", "Config search path", "\tprovider=", "    ")
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(unhelpful)]
    if error.__cause__ is not None:
        lines += str(error.__cause__).splitlines()[:1]
    if unknown := re.match(r"Could not override '([^']+)'", lines[0]):
        near = get_close_matches(unknown[1], _keys(config), n=3)
        lines = [f"there is no key {unknown[1]}. {f'Near it are {some(near)}. ' if near else ''}--help lists all."]
    return "\n".join(lines)


def _is_no_choice(word: str) -> bool:
    key, equals, value = word.partition("=")
    folder = config_folder() / key
    return bool(equals) and folder.is_dir() and not all((folder / f"{one}.yaml").is_file() for one in value.split(","))


def _keys(config: str) -> list[str]:
    """Return the keys of a command's config, those of groups too."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from kjcm.study.ledger import leaves

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = OmegaConf.to_container(compose(config))
    return sorted({*(key for key, _ in leaves(cfg)), *_group_names(config_folder(), config)})


def _sweep(run: Callable[[], Any], command: str, target: str, debug: bool) -> int:
    """Run a multirun, end it with its table, however it ends, and return the exit code."""
    from kjcm.study.sweep import sweeping

    with sweeping(command, target, debug) as sweep:
        try:
            run()
        finally:
            code = sweep.end()
    return code


def _require_multirun(command: str, cfg: Any) -> None:
    """Raise ConfigError if a single run is given what is of a multirun alone: it would go unheeded."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from kjcm.errors import ConfigError
    from kjcm.schema import word_key

    if OmegaConf.select(cfg, "sweep.dry_run"):
        remedy = "add -m, or leave it out" if command in SWEPT else "leave it out"
        raise ConfigError(f"sweep.dry_run=true lists the jobs of a multirun: {remedy}.")
    given = {word_key(word) for word in HydraConfig.get().overrides.task}
    swept = [str(key) for key in OmegaConf.select(HydraConfig.get().sweeper, "params") or () if key not in given]
    if command in SWEPT and swept:
        raise ConfigError(f"{', '.join(swept)}: the config sweeps over these keys. Add -m, or give each one value.")


def _checked(arguments: list[str]) -> list[str]:
    """Refuse a multirun that Hydra would take without a word, and that would go wrong."""
    if not MULTIRUN & set(arguments):
        return arguments
    if any(word.partition("=")[0] in ("-c", "--cfg") for word in arguments):
        print(
            "kjcm: --cfg prints the config of one run and -m makes many; leave -m out and give each key one value, or list "
            "the jobs with sweep.dry_run=true.",
            file=sys.stderr,
        )
        sys.exit(2)
    if any(word.lstrip("+").startswith("run_dir=") for word in arguments):
        print("kjcm: run_dir names one run's folder and -m makes many; give runs=DIR instead.", file=sys.stderr)
        sys.exit(2)
    from kjcm.study.lightning import one_of_several

    if one_of_several():
        print(
            "kjcm: -m under torchrun or several Slurm tasks would have each process launch all jobs. Start the sweep in one "
            "process: trainer.devices=N starts those of a job, hydra/launcher=submitit_slurm takes machines for each.",
            file=sys.stderr,
        )
        sys.exit(2)
    return arguments


def _quote_number(word: str) -> str:
    """Quote the numbers in `cutoff=10,100`: Hydra wants a group's choices to be text."""
    key, _, value = word.partition("=")
    if not value or not (config_folder() / key).is_dir():
        return word
    if swept := re.fullmatch(r"choice\((.*)\)", value):
        value = swept[1]  # the same; of a group's choices in brackets Hydra loses the quotes
    return f"{key}=" + ",".join(f'"{choice}"' if choice.isdigit() else choice for choice in value.split(","))


def _quote_text(word: str, *, swept: bool) -> str:
    """Quote what Hydra takes in quotes only: values that are not ASCII, and files' names with marks of its own, as `가(1).csv`.

    In a sweep such marks are the sweep's.
    """
    from kjcm.schema import quoted

    key, equals, value = word.partition("=")
    if not equals or any(mark in value for mark in "'\"$"):
        return word
    marked = any(mark in value for mark in "[]{}()")
    place = key in (("runs", "cache") if swept else PLACES)  # a sweep has one of each of these
    if (not swept and FILE_NAME.fullmatch(value)) or (place and (marked or "," in value or not value.isascii())):
        return f"{key}={quoted(value)}"
    parts = PART if marked else re.compile("[^,]+")
    return f"{key}=" + parts.sub(lambda part: part[0] if part[0].isascii() else quoted(part[0]), value)


def _is_flag(word: str) -> bool:
    return not ("=" in word or word.startswith("~")) or word.startswith("-")


def _groups(config: str) -> str:
    """Return the groups that the defaults list of a config names, with their choices."""
    folder = config_folder()
    choices = {
        name: sorted(file.stem for file in (folder / name).glob("*.yaml")) for name in _group_names(folder, config)
    }
    return "\n".join(f"  {name:<16}{', '.join(found)}" for name, found in choices.items()) or "  (none)"


def _group_names(folder: Path, config: str) -> list[str]:
    """Return the groups in the defaults list of a config and of the plain configs in it."""
    from omegaconf import OmegaConf

    names: list[str] = []
    for entry in OmegaConf.select(OmegaConf.load(folder / f"{config}.yaml"), "defaults", default=[]):
        if isinstance(entry, str):
            names += _group_names(folder, entry) if (folder / f"{entry}.yaml").is_file() else []
        else:
            names += [str(name) for name in entry if not str(name).startswith("override")]
    return names


def _load(target: str) -> Callable[[Any], Any]:
    module, function = target.split(":")
    loaded: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return loaded


def _help() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(
        version=__version__,
        commands="\n".join(f"  {name:<{width}}  {purpose}" for name, (_, purpose, _) in COMMANDS.items()),
        examples="\n".join(f"  {example}" for _, _, example in COMMANDS.values()),
    )
