"""The door: `kjcm <command> [hydra overrides]`. Nothing heavy is imported before a command is known."""

import importlib
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any, cast

from kjcm import __version__
from kjcm.errors import ConfigError, Interrupted, of_the_system, some
from kjcm.streams import use_hangul, use_outlets

# command -> (module and function, what it does, example)
COMMANDS = {
    "reproduce": (
        "kjcm.report.reproduce:reproduce",
        "train what is missing of the paper's models, and report",
        "kjcm reproduce out=out/report",
    ),
    "report": (
        "kjcm.report.report:report",
        "finished runs to the paper's tables, figures and one page",
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
        "time training against Hugging Face's Trainer and a plain Lightning loop",
        "kjcm bench train out=out/bench/train",
    ),
    "bench predict": (
        "kjcm.bench.predict:bench_predict",
        "time coding against Hugging Face's pipeline",
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
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}  # what makes a command one
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


def main(argv: list[str] | None = None) -> None:
    """Run one command; the exit code is 0, or 1 (input, surroundings) or 2 (config) with one message on stderr."""
    if argv is None:
        use_hangul()
        use_outlets()
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
    near = get_close_matches(given, COMMANDS, n=1)
    meant = f" Do you mean `kjcm {near[0]}`?" if near else ""
    print(f"kjcm: no command {given!r}.{meant} The commands are {', '.join(several or COMMANDS)}.", file=sys.stderr)
    sys.exit(2)


def run_command(command: str, arguments: list[str], debug: bool = False) -> int:
    """Run `command` through Hydra and return the exit code; its errors have been shown."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig

    from kjcm import schema
    from kjcm.overrides import config_folder, for_hydra, is_from_hydra, said, words_of_shown

    schema.register()
    target, purpose, example = COMMANDS[command]
    codes, multirun = [0], bool(MULTIRUN & set(arguments))

    def work(cfg: DictConfig) -> Any:
        _require_keys(command, cfg)
        schema.check(cfg)
        if not multirun:
            _require_multirun(command, cfg)
        return _load(target)(cfg)

    def kept(task: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
        # an error is kept here rather than raised, so that no traceback shows
        try:
            return task(cfg)
        except Exception as error:
            if debug:
                raise
            from kjcm.study.failures import tell

            codes.append(tell(f"kjcm {command}", error).exit_code)
            return None

    config = command.replace(" ", "_")
    text = COMMAND_HELP.format(command=command, purpose=purpose, example=example, groups=_groups(config))
    try:
        words = for_hydra(config, _checked(arguments), swept=multirun)
    except ConfigError as error:
        print(f"kjcm {command}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    through_hydra = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config)
    run = through_hydra(partial(kept, work))
    before = sys.argv
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra shall not print and exit
    try:
        if (shown := words_of_shown(words)) is not None:  # --cfg prints a config and runs no job that could check it
            sys.argv = [before[0], *shown]
            through_hydra(partial(kept, partial(_require_keys, command)))()
            if any(codes):
                return max(codes)
        sys.argv = [before[0], f"hydra.help.template={schema.quoted(text)}", "hydra.help.app_name=kjcm", *words]
        if command in SWEPT and multirun:
            codes.append(_sweep(run, command, target, debug))
        else:
            run()
    except Exception as error:  # Hydra has no exception of its own for each override that makes no config
        if debug or not (isinstance(error, OSError) or is_from_hydra(error)):
            raise
        refused = isinstance(error, OSError) and not isinstance(error, HydraException)  # as Hydra's own folder
        message = of_the_system(error) if refused else said(error, config, arguments)  # type: ignore[arg-type]
        print(f"kjcm {command}: {message}", file=sys.stderr, flush=True)
        codes.append(1 if refused else 2)
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full
    return max(codes)


def _sweep(run: Callable[[], Any], command: str, target: str, debug: bool) -> int:
    """Run a multirun, end it with its table, however it ends, and return the exit code."""
    from kjcm.study.sweep import sweeping

    with sweeping(command, target, debug) as sweep:
        try:
            run()
        finally:
            code = sweep.end()
    return code


def _require_keys(command: str, cfg: Any) -> None:
    """Raise ConfigError if a config has a key that is unknown, or an override sets one that the command does not read."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from kjcm import schema
    from kjcm.unread import require_read

    hydra = HydraConfig.get()
    schema.require_known(cast(DictConfig, hydra), "hydra.", beside="hydra.env")  # Hydra's own file adds it
    if hydra.job.chdir:
        raise ConfigError("hydra.job.chdir=true: kjcm works in the folder in which it is started. Leave it out.")
    schema.require_known(cfg)
    schema.require_resolvable(cfg)
    require_read(command, cfg, list(hydra.overrides.task))


def _require_multirun(command: str, cfg: Any) -> None:
    """Raise ConfigError if a single run is given what is of a multirun alone: it would go unheeded."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from kjcm.errors import ConfigError
    from kjcm.schema import word_key

    words = HydraConfig.get().overrides.task
    if command in SWEPT and (of_sweep := [word for word in words if f"{word_key(word)}.".startswith("sweep.")]):
        raise ConfigError(f"{some(of_sweep)}: this is a setting of multiruns: add -m, or leave it out.")
    given = set(map(word_key, words))
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


def _groups(config: str) -> str:
    """Return the groups that the defaults list of a config names, with their choices."""
    from kjcm.overrides import config_folder, group_names

    folder = config_folder()
    choices = {name: sorted(file.stem for file in (folder / name).glob("*.yaml")) for name in group_names(config)}
    return "\n".join(f"  {name:<16}{', '.join(found)}" for name, found in choices.items()) or "  (none)"


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
