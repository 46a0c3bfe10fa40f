"""The door: `kjcm <command> [hydra overrides]`. Nothing heavy is imported before a command is known."""

import os
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from kjcm import __version__
from kjcm.commands import COMMANDS, SWEPT, Command
from kjcm.errors import ConfigError, Interrupted, KjcmError, of_the_system
from kjcm.streams import use_hangul, use_outlets

if TYPE_CHECKING:
    from kjcm.sweeps.sweep import Sweep

MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}  # what makes a command one
LISTED = {"diff": "compare", "audit": "folds"}  # command -> key that takes its words without a key
GIVEN = {"classification import": "input"}  # command -> key that takes its first word without a key
TEXTS = {"search": "query"}  # command -> key that takes its words without a key as one text
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

COMMAND_HELP = """{command}: {purpose}

  {example}

{keys}"""
HELP_FLAGS = {"-h", "--help"}


def main(argv: list[str] | None = None, command: Command | None = None) -> None:
    """Run one command; the exit code is 0, or 1 (input, surroundings) or 2 (config) with one message on stderr.

    Args:
        argv: the arguments; those of this process if None.
        command: one of another program; if None, the first argument names one of kjcm's.
    """
    if argv is None:
        use_hangul()
        use_outlets()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if command is None:
        command, arguments = _chosen(arguments)
        if command.name == "ensemble":
            command, arguments = COMMANDS["train"], _as_training(arguments)
        elif command.name in LISTED:
            from kjcm.keys.overrides import with_list

            arguments = with_list(LISTED[command.name], arguments)
        elif command.name in GIVEN:
            from kjcm.keys.overrides import with_first

            arguments = with_first(GIVEN[command.name], arguments)
        elif command.name in TEXTS:
            from kjcm.keys.overrides import with_text

            arguments = with_text(TEXTS[command.name], arguments)
    debug = "--debug" in arguments
    try:
        code = run_command(command, [word for word in arguments if word != "--debug"], debug)
    except KeyboardInterrupt:
        print("kjcm: interrupted. Run the same command again to resume.", file=sys.stderr)
        sys.exit(130)
    except Interrupted as leaving:
        if leaving.exit_code:  # the first of several processes speaks
            print(f"kjcm: {leaving}; what was done is saved. Run the same command again to resume.", file=sys.stderr)
        sys.exit(leaving.exit_code)
    if code:
        sys.exit(code)


def _chosen(arguments: list[str]) -> tuple[Command, list[str]]:
    """Return the command that the first words name, and the other arguments; print help, version or error, and exit."""
    name = arguments[0] if arguments else "help"
    if name in COMMANDS:
        return COMMANDS[name], arguments[1:]
    if group := {key: one for key, one in COMMANDS.items() if key.startswith(f"{name} ")}:
        name = " ".join(arguments[:2])
        if name in group:
            return group[name], arguments[2:]
        if len(arguments) == 1 or arguments[1] in HELP_FLAGS:
            print(_help(group))
            sys.exit(0)
    if name in (*HELP_FLAGS, "help"):
        print(_help(COMMANDS))
        sys.exit(0)
    if name == "--version":
        print(__version__)
        sys.exit(0)
    if name == "bench":
        hint = "The benchmarks are only in a checkout: run `python -m benchmarks.train` (or predict, serve, prepare) there."
    else:
        known = group or COMMANDS
        near = get_close_matches(name, known, n=1)
        hint = f"Do you mean `kjcm {near[0]}`?" if near else f"The commands are {', '.join(known)}."
    print(f"kjcm: no command {name!r}. {hint}", file=sys.stderr)
    sys.exit(2)


def _as_training(arguments: list[str]) -> list[str]:
    """Return the arguments of `kjcm ensemble` as those of `kjcm train`; print what is wrong with a member, and exit."""
    from kjcm.ensemble.command import as_training
    from kjcm.run_folder.failures import tell

    try:
        return as_training(arguments)
    except KjcmError as error:
        sys.exit(tell("kjcm ensemble", error).exit_code)


def run_command(command: Command, arguments: list[str], debug: bool = False) -> int:
    """Run `command` through Hydra and return the exit code; its errors have been shown."""
    try:
        return hydra_run(command, arguments, debug=debug)
    except KjcmError as error:
        if debug and not isinstance(error, ConfigError):
            raise
        print(f"{command}: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def hydra_run(
    command: Command,
    arguments: list[str],
    ended: "Callable[[Sweep], object]" = lambda sweep: None,
    *,
    debug: bool = False,
) -> int:
    """Run `command` through Hydra and return the exit code; errors of its function have been shown.

    Args:
        command: the command.
        arguments: its overrides and options.
        ended: called with the finished multirun.
        debug: whether errors show their traceback.

    Raises:
        KjcmError: the overrides make no config, or Hydra cannot write its folder.
    """
    from unittest.mock import patch

    import hydra
    from hydra._internal.hydra import Hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig

    from kjcm.keys.checks import check
    from kjcm.keys.composition import register
    from kjcm.keys.overrides import config_folder, for_hydra, mode_in, words_of_shown
    from kjcm.keys.reference import command_help
    from kjcm.keys.refusals import is_from_hydra, said
    from kjcm.keys.unread import require_keys, require_single

    register()
    codes, multirun, asks_for_help = [0], bool(MULTIRUN & set(arguments)), bool(HELP_FLAGS & set(arguments))

    def work(cfg: DictConfig) -> Any:
        require_keys(command.config, cfg, command.unread)
        check(cfg)
        if command.name in SWEPT and not multirun:
            require_single()
        return _load(command.target)(cfg)

    def kept(task: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
        # an error is kept here rather than raised, so that no traceback shows
        try:
            return task(cfg)
        except Exception as error:
            if debug:
                raise
            from kjcm.run_folder.failures import tell

            codes.append(tell(str(command), error).exit_code)
            return None

    config = command.config
    before = sys.argv
    try:
        if multirun and not asks_for_help:
            _require_one_start(arguments)
        words = for_hydra(config, arguments, swept=multirun)
        if asks_for_help:
            keys = command_help(config, words)
            print(COMMAND_HELP.format(command=command, purpose=command.purpose, example=command.example, keys=keys))
            return 0
        through_hydra = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config)
        # HYDRA_FULL_ERROR keeps Hydra from printing an error and exiting.
        with patch.object(Hydra, "get_mode", mode_in), patch.dict(os.environ, HYDRA_FULL_ERROR="1"):
            # --cfg prints a config and runs no job that could check it
            if (shown := words_of_shown(words)) is not None:
                sys.argv = [before[0], *shown]
                through_hydra(partial(kept, lambda cfg: require_keys(command.config, cfg, command.unread)))()
                if any(codes):
                    return max(codes)
            sys.argv = [before[0], *words]
            run = through_hydra(partial(kept, work))
            if command.name in SWEPT and multirun:
                codes.append(_sweep(run, command.name, command.target, ended, debug))
            else:
                run()
    except KjcmError:
        raise
    except Exception as error:  # Hydra has no exception of its own for each override that makes no config
        if debug or not (isinstance(error, OSError) or is_from_hydra(error)):
            raise
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # as Hydra's own folder
            raise of_the_system(error) from None
        raise ConfigError(said(error, config, arguments)) from None
    finally:
        sys.argv = before
    return max(codes)


def _sweep(run: Callable[[], Any], command: str, target: str, ended: "Callable[[Sweep], object]", debug: bool) -> int:
    """Run a multirun, end it with its table, however it ends, and return the exit code."""
    from kjcm.sweeps.sweep import sweeping

    with sweeping(command, target, debug) as sweep:
        try:
            run()
        finally:
            code = sweep.end()
    ended(sweep)
    return code


def _require_one_start(arguments: list[str]) -> None:
    """Raise ConfigError for a multirun that Hydra would accept but that would go wrong."""
    from kjcm.engine.device import one_of_several

    if any(word.partition("=")[0] in ("-c", "--cfg") for word in arguments):
        raise ConfigError(
            "--cfg prints the config of one run, and -m starts many. Remove -m and give each key one value, or list the jobs "
            "with sweep.dry_run=true."
        )
    if any(word.lstrip("+").startswith("run_dir=") for word in arguments):
        raise ConfigError("run_dir names one run's folder, and -m starts many runs. Set runs=DIR instead.")
    if one_of_several():
        raise ConfigError(
            "With -m, each process of torchrun or Slurm would start all jobs. Start the sweep in one process: "
            "trainer.devices=N gives a job several processes, hydra/launcher=submitit_slurm several machines."
        )


def _load(target: str) -> Callable[[Any], Any]:
    loaded: Callable[[Any], Any] = resolve_name(target)
    return loaded


def _help(commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands))
    return HELP.format(
        version=__version__,
        commands="\n".join(f"  {name:<{width}}  {command.purpose}" for name, command in commands.items()),
        examples="\n".join(f"  {command.example}" for command in commands.values()),
    )
