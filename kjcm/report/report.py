"""`kjcm report`: finished runs to the paper's tables, figures and one page; nothing is trained."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from kjcm.analysis.content import Table
from kjcm.analysis.experiments import folder
from kjcm.analysis.models import load_models, path_word
from kjcm.analysis.selection import Run, choose_anchor, find_runs, select, study_hash
from kjcm.analysis.study import MAIN, Study
from kjcm.config.overrides import word_key
from kjcm.errors import KjcmError, counted, first_line
from kjcm.ksco.classification import load_classification
from kjcm.report import disagreements
from kjcm.report.build import PAGE, build, require_free
from kjcm.report.paper import counts_of_verdicts
from kjcm.runs.contents import recorded_data
from kjcm.shell import command_line
from kjcm.survey.inputs import Config, classification_of, cohort_of

OF_A_PAGE = ("runs", "like", "only", "texts", "replicates", "bootstrap_seed")  # keys that say what a page shows

log = logging.getLogger("kjcm")


def report(cfg: DictConfig) -> None:
    """Build the report of the runs under `runs` into `out`.

    Raises:
        KjcmError: no runs to report, unusable runs or verdicts, or `out` holds something else.
    """
    from hydra.core.hydra_config import HydraConfig

    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    build_report(config, list(HydraConfig.get().overrides.task))


def build_report(config: Config, words: Sequence[str]) -> None:
    """Read the runs, build, and say what was found.

    Args:
        config: the keys of `kjcm report`.
        words: overrides that give those which differ from their defaults; others are left aside.
    """
    for package in ("fontTools", "matplotlib"):
        logging.getLogger(package).setLevel(logging.WARNING)  # they tell of every table of a font
    study = read_study(config)
    out = Path(config["out"])
    own = study_hash(study.anchor.config, study.anchor.inputs)
    require_free(out, own, config["overwrite"], config["only"])
    judged = _judged(config["review"], out)
    whole = build(study, out, own, config["only"], judged, _command(words, judged))
    _show(study, whole, out)


def _command(words: Sequence[str], judged: Path | None) -> str:
    """Return the command that makes the same page, in whatever folder: it does not name `out`."""
    own = [word for word in words if word_key(word) in OF_A_PAGE]
    if judged is not None and disagreements.read_verdicts(judged):
        own.append(f"review={path_word(judged)}")
    return command_line(["kjcm", "report", *own])


def read_study(config: Config) -> Study:
    """Return the study that the runs under `runs` make up.

    Raises:
        KjcmError: there is no run of it, or runs of several settings and no `like`.
    """
    runs_folder = Path(config["runs"])
    models = load_models(folder() / "models.yaml")
    found, others = find_runs(runs_folder)
    anchor = choose_anchor(found, models, config["like"], others)
    chosen, listed = select(found, models, anchor)
    return Study(
        models=models,
        runs=chosen,
        anchor=anchor,
        listed=(*listed, *others),
        classification=load_classification(anchor.config["classification"]["name"]),
        folder=runs_folder,
        texts=_texts(chosen.get(MAIN, (anchor,))[0], config["texts"]),
        replicates=config["replicates"],
        bootstrap_seed=config["bootstrap_seed"],
    )


def _texts(run: Run, wanted: bool) -> pd.DataFrame | None:
    """Return the cohort's rows with their texts, read again from the run's data, where they may be shown.

    Raises:
        KjcmError: they are wanted, and the data files are gone or hold other rows than at training.
    """
    if not (wanted or run.report["synthetic"]):
        return None
    config = recorded_data(run.path, dict(run.config))
    own = run.report["synthetic"]
    remedy = "The twin has changed: retrain." if own else "Restore them, or leave texts=false."
    try:
        cohort = cohort_of(config["data"], classification_of(config))
    except KjcmError as error:
        raise KjcmError(f"The report reads the data of {run.path} again for its texts: {first_line(error)}") from None
    if cohort.cohort_hash != run.hashes["cohort"]:
        raise KjcmError(
            f"The texts of {run.path} are read again from its data, which hold other rows than at training (cohort "
            f"{cohort.cohort_hash[:12]}, then {run.hashes['cohort'][:12]}). {remedy}"
        )
    return cohort.rows


def _judged(given: str | None, out: Path) -> Path | None:
    """Return the file with a person's verdicts: the one given, or the one that an earlier report wrote into `out`."""
    if given is not None:
        return Path(given).expanduser()
    earlier = out / disagreements.FILE
    return earlier if earlier.is_file() else None


def _show(study: Study, whole: Table, out: Path) -> None:
    """Say on the screen what was used, what was not, and where the report is."""
    aside: dict[str, list[Path]] = {}
    for one in study.listed:
        if one.state != "used":
            aside.setdefault(one.state, []).append(one.path)
    for why, paths in aside.items():
        log.info("%s%s: %s", paths[0], f" and {len(paths) - 1:,} more" if paths[1:] else "", why)
    if missing := study.missing(study.models):
        log.info("not run (the report has their commands): %s", ", ".join(label for label, _ in missing))
    counts = counts_of_verdicts(whole)
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    log.info("%s used; %s", counted(len(study.all_runs), "run"), verdicts)
    if study.synthetic:
        log.info("SYNTHETIC twin: these figures say nothing of real answers, and are not comparable with the paper's")
    log.info("report in %s", out / PAGE)
