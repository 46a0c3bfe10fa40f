"""`kjcm report`: make the paper's tables and figures and one page of finished runs, without training."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from kjcm.analysis.content import Table
from kjcm.analysis.experiments import folder
from kjcm.analysis.models import load_models, path_word
from kjcm.analysis.selection import Run, choose_anchor, find_runs, select, study_hash
from kjcm.analysis.study import MAIN, Study
from kjcm.errors import KjcmError, counted, first_line
from kjcm.keys.commands.reports import ReportConfig
from kjcm.keys.composition import typed
from kjcm.keys.overrides import word_key
from kjcm.ksco.classification import load_classification
from kjcm.reporting import disagreements
from kjcm.reporting.build import PAGE, build, require_free
from kjcm.reporting.paper import counts_of_verdicts
from kjcm.run_folder.contents import recorded_data
from kjcm.run_folder.results import SYNTHETIC_REMARK
from kjcm.shell import command_line
from kjcm.survey.inputs import cohort_of

OF_A_PAGE = ("runs", "like", "only", "texts", "replicates", "bootstrap_seed")  # keys that change a page

log = logging.getLogger("kjcm")


def report(cfg: DictConfig) -> None:
    """Build the report of the runs under `runs` into `out`.

    Raises:
        KjcmError: there are no runs to report, runs or verdicts are unusable, or `out` contains something else.
    """
    from hydra.core.hydra_config import HydraConfig

    build_report(typed(cfg, ReportConfig), list(HydraConfig.get().overrides.task))


def build_report(config: ReportConfig, words: Sequence[str]) -> Path:
    """Read the runs, build the report, log what it contains, and return its page.

    Args:
        config: the keys of `kjcm report`.
        words: overrides of a command, of which those of a report's keys count.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs every font
    study = read_study(config)
    out = Path(config.out)
    own = study_hash(study.anchor.config, study.anchor.inputs)
    require_free(out, own, config.overwrite, config.only)
    judged = _judged(config.review, out)
    whole = build(study, out, own, config.only, judged, _command(words, judged))
    _show(study, whole, out)
    return out / PAGE


def _command(words: Sequence[str], judged: Path | None) -> str:
    """Return the command that makes the same page in any folder; it does not name `out`."""
    own = [word for word in words if word_key(word) in OF_A_PAGE]
    if judged is not None and disagreements.read_verdicts(judged):
        own.append(f"review={path_word(judged)}")
    return command_line(["kjcm", "report", *own])


def read_study(config: ReportConfig) -> Study:
    """Return the study of the runs under `runs`.

    Raises:
        KjcmError: there is no run, or there are runs of several settings and no `like`.
    """
    runs_folder = Path(config.runs)
    models = load_models(folder() / "models.yaml")
    found, others = find_runs(runs_folder)
    anchor = choose_anchor(found, models, config.like, others)
    chosen, listed = select(found, models, anchor)
    return Study(
        models=models,
        runs=chosen,
        anchor=anchor,
        listed=(*listed, *others),
        classification=load_classification(anchor.config["classification"]["name"]),
        folder=runs_folder,
        texts=rows_with_texts(chosen.get(MAIN, (anchor,))[0], config.texts),
        replicates=config.replicates,
        bootstrap_seed=config.bootstrap_seed,
    )


def rows_with_texts(run: Run, wanted: bool) -> pd.DataFrame | None:
    """Return the cohort's rows with their texts, read again from the run's data; None if texts must not be shown.

    Raises:
        KjcmError: the data files are missing, or contain other rows than at training.
    """
    if not (wanted or run.report["synthetic"]):
        return None
    data, classification = recorded_data(run.path, run.config)
    own = run.report["synthetic"]
    remedy = "The twin has changed: retrain." if own else "Restore them, or leave texts=false."
    try:
        cohort = cohort_of(data, load_classification(classification.name, classification.path))
    except KjcmError as error:
        raise KjcmError(f"The report reads the texts of {run.path} again from its data: {first_line(error)}") from None
    if cohort.cohort_hash != run.hashes["cohort"]:
        raise KjcmError(
            f"The data of {run.path} have other rows than at training (cohort {cohort.cohort_hash[:12]}, then "
            f"{run.hashes['cohort'][:12]}), so the report cannot show their texts. {remedy}"
        )
    return cohort.rows


def _judged(given: str | None, out: Path) -> Path | None:
    """Return the file with a reviewer's verdicts: `given`, or the file that an earlier report wrote into `out`."""
    if given is not None:
        return Path(given).expanduser()
    earlier = out / disagreements.FILE
    return earlier if earlier.is_file() else None


def _show(study: Study, whole: Table, out: Path) -> None:
    """Log which runs the report uses, which it leaves out and why, and where it is."""
    unused: dict[str, list[Path]] = {}
    for one in study.listed:
        if one.state != "used":
            unused.setdefault(one.state, []).append(one.path)
    for why, paths in unused.items():
        log.info("%s%s: %s", paths[0], f" and {len(paths) - 1:,} more" if paths[1:] else "", why)
    if missing := study.missing(study.models):
        log.info("not run (the report has their commands): %s", ", ".join(label for label, _ in missing))
    counts = counts_of_verdicts(whole)
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    log.info("%s used; %s", counted(len(study.all_runs), "run"), verdicts)
    if study.synthetic:
        log.info(SYNTHETIC_REMARK)
    log.info("report in %s", out / PAGE)
