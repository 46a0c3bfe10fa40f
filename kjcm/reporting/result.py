"""The report's first section: model, data, accuracy, and the baselines and the paper to compare with."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kjcm.analysis.content import Column, Estimate, Figure, Table, Value, metric_column
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import show
from kjcm.analysis.selection import Run
from kjcm.analysis.study import MAIN, Study
from kjcm.errors import counted
from kjcm.keys.identity import BY_VIEWS
from kjcm.keys.models import ViewConfig
from kjcm.plot.curves import draw_intervals
from kjcm.reporting.further import paired
from kjcm.reporting.page import Header
from kjcm.reporting.paper import Printed
from kjcm.reporting.tables import UNCERTAINTY, Content

HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(@\S+)?")  # a model name on the Hugging Face hub
PAPERS = "monologg/distilkobert"  # the paper's encoder
PAPERS_MODEL = "pretrained DistilKoBERT of 3 layers × 768"
BASELINES = {"majority": "the most frequent groups for every row", "svm": "character TF-IDF and a linear SVM"}
SIGNIFICANT = 0.05
LAYERS, WIDTH = ("n_layers", "num_hidden_layers"), ("dim", "hidden_size")  # config keys of different encoders


def header(study: Study, paper: Mapping[str, Printed], command: str) -> Header:
    """Return the page header of a study: title, result, model and data; `command` is the command that makes the page."""
    facts = [("Model", _model(study)), ("Data", _data(study)), ("Runs", _runs(study))]
    title = f"{study.label(_main(study))} on {_source(study)}"
    return Header(title, _lead(study, paper), facts, command)


def result(study: Study, this: Experiment, paper: Mapping[str, Printed]) -> Sequence[Content]:
    """Return the models' accuracy on the study's test rows; the paper's accuracy only if the data are the paper's."""
    keys = sorted(
        (key for key in this.runs if key in study.metrics),
        key=lambda key: (key != _main(study), -study.metrics[key]["accuracy"].mean),
    )
    measured = [(key, study.metrics[key]["accuracy"], study.metrics[key]["f1_weighted"]) for key in keys]
    shown: list[tuple[str, str, int | None, Estimate, Estimate]] = [
        (study.label(key), described(study.runs[key][0]), len(study.runs[key]), accuracy, f1)
        for key, accuracy, f1 in measured
    ]
    if study.comparable:
        accuracy, f1 = (Estimate(paper[f"table_3.{name}"].value or 0.0) for name in ("accuracy", "f1_weighted"))
        shown.insert(1, ("K-JCM, as the paper prints it", PAPERS_MODEL, None, accuracy, f1))
    columns = (
        Column("Model"), Column("Description"), Column("Seeds", "count"), metric_column("accuracy"),
        metric_column("f1_weighted"),
    )  # fmt: skip
    rows: tuple[tuple[Value, ...], ...] = tuple(shown)
    notes = (UNCERTAINTY, "F1 is weighted by the groups' test rows.")
    table = Table(this.key, this.heading, columns, rows, notes, study.missing(this.runs))
    bars = [(label, accuracy) for label, _, _, accuracy, _ in shown]
    picture = Figure(
        "accuracy",
        "Accuracy of each model with its 95 % interval",
        lambda: draw_intervals(bars, synthetic=study.synthetic),
        "Accuracy: " + "; ".join(f"{label} {show(estimate.mean, 'percent')}" for label, estimate in bars) + ".",
        Table("accuracy", "Accuracy", (columns[0], metric_column("accuracy")), tuple(bars)),
        draw_narrow=lambda: draw_intervals(bars, synthetic=study.synthetic, narrow=True),
    )
    return [table, picture] if bars else [table]


def _main(study: Study) -> str:
    """Return the key of the model that the page is about."""
    return MAIN if MAIN in study.runs else study.anchor.name


def _lead(study: Study, paper: Mapping[str, Printed]) -> list[str]:
    """Return the result in sentences: for the model, the best model, the best baseline and the paper."""
    lead = []
    main, baselines = _main(study), [key for key in study.metrics if study.models[key].command == "baseline"]
    best = _most_accurate(study, [key for key in study.metrics if key not in baselines and _is_like(study, key, main)])
    if main in study.metrics:
        rows = show(len(study.answers(main)[0]), "count")
        kind = "invented test rows" if study.synthetic else "test rows"
        lead.append(f"{study.label(main)} codes {_accuracy(study, main)} of the {rows} {kind} correctly.")
    if best not in (None, main):
        lead.append(f"The most accurate model, {study.label(best)}, codes {_accuracy(study, best)} correctly.")
    if baseline := _most_accurate(study, [key for key in baselines if key != main]):
        lead.append(f"The best baseline, {study.label(baseline)}, codes {_accuracy(study, baseline)} correctly.")
        lead += [_against(study, best, baseline)] if best else []
    printed = show(paper["table_3.accuracy"].value, "percent")
    lead.append(
        f"The paper reports {printed} for its K-JCM."
        if study.comparable
        else f"The paper's {printed} was measured on other data, the answers of the Korean Working Conditions Survey. Do not "
        "compare it with the figures on this page."
    )
    return lead


def _most_accurate(study: Study, keys: Sequence[str]) -> str | None:
    """Return the most accurate of some models; None if there is none."""
    return max(keys, key=lambda key: study.metrics[key]["accuracy"].mean, default=None)


def _is_like(study: Study, key: str, main: str) -> bool:
    """Return whether a model codes the test rows of the page's model, with as many digits."""
    own, other = study.runs[key][0], study.runs[main][0]
    return own.hashes["split"] == other.hashes["split"] and all(
        own.report[name] == other.report[name] for name in ("n_test", "level")
    )


def _against(study: Study, best: str, baseline: str) -> str:
    """Return the paired test of the most accurate model and the best baseline in words."""
    found, _ = paired(study, best, baseline)
    gap = f"{show(abs(found.difference), 'percent').removesuffix(' %')} points"
    p = show(found.p, "p")
    test = f" (p {p if p.startswith('<') else f'= {p}'}, {found.test})" if p else ""
    if found.p is None or found.p >= SIGNIFICANT:
        return f"{study.label(best)} and {study.label(baseline)} differ by {gap}, which may be chance{test}."
    way = "more" if found.difference > 0 else "less"
    said = f"{study.label(best)} is {gap} {way} accurate than {study.label(baseline)}{test}."
    run = study.runs[best][0]
    if found.difference > 0 or run.report["kind"] != "encoder" or run.config["model"].get("pretrained"):
        return said
    return f"{said} An encoder with a random start needs more training rows than its {show(run.report['n_train'], 'count')}."


def _accuracy(study: Study, key: str) -> str:
    """Return a model's accuracy in words, with its interval."""
    found = study.metrics[key]["accuracy"]
    more = [f"mean of {len(study.runs[key])} seeds"] if len(study.runs[key]) > 1 else []
    if found.low is not None and found.high is not None:
        more.append(f"95 % interval {show(found.low, 'percent')} to {show(found.high, 'percent')}")
    return show(found.mean, "percent") + (f" ({', '.join(more)})" if more else "")


def _model(study: Study) -> str:
    run = study.reference
    epochs = run.report.get("epochs")
    trained = f", trained for {counted(epochs, 'epoch')}" if epochs else ""
    text = f"{study.label(_main(study))}: {described(run)}{trained}."
    is_papers = "model" not in run.config or run.config["model"].get("pretrained") == PAPERS
    return text if is_papers else f"{text} This is not the paper's model, which was {PAPERS_MODEL}."


def described(run: Run) -> str:
    """Return a description of a run's model from its config, for example '2 layers × 128, random start'."""
    parts = (
        _model_parts(run.config["model"], run.report.get("views") or {})
        if "model" in run.config
        else [BASELINES.get(run.config["kind"], run.config["kind"])]
    )
    flow = run.cohort["flow"]
    if flow["unused"] or flow["validation"]:
        parts.append(f"{show(flow['train'], 'count')} training rows")
    if flow["validation"]:
        parts.append(f"{show(flow['validation'], 'count')} validation rows")
    if reviewed := run.report.get("n_reviewed"):
        parts.append(f"{show(reviewed, 'count')} reviewed rows added")
    if added := run.report.get("n_augmented"):
        parts.append(f"{show(added, 'count')} rows of the classification added")
    return ", ".join(parts)


def _model_parts(model: Mapping[str, Any], views: Mapping[str, str]) -> list[str]:
    """Return an encoder's size and start (a pretrained one's size is in its weights), a linear model's views, or members.

    Args:
        model: the config's node.
        views: view -> its parts in the trained model, which are words where kiwipiepy was missing.
    """
    if model.get("kind") == "ensemble":
        return [f"ensemble of {counted(len(model['members']), 'member')}", *map(str, model["members"])]
    name = str(model.get("pretrained") or "")
    start = f"pretrained {name if HUB.fullmatch(name) else Path(name).name}" if name else "random start"
    if model.get("kind") in BY_VIEWS:
        own = {name: ViewConfig(**{**view, "of": views[name]}) for name, view in model["views"].items()}
        frozen = [start] if any(view.of == "encoder" for view in own.values()) else []
        return [model["kind"], *(view.title for view in own.values()), *frozen]
    shape = model.get("shape") or {}
    size = [next((str(shape[name]) for name in names if name in shape), "") for names in (LAYERS, WIDTH)]
    return [f"{size[0]} {'layer' if size[0] == '1' else 'layers'} × {size[1]}", start] if all(size) else [start]


def _source(study: Study) -> str:
    """Return the name of the data."""
    data = study.anchor.config["data"]
    names = {"synthetic": "the synthetic twin", "kwcs": "the Korean Working Conditions Survey"}
    return names.get(study.anchor.source) or Path(str(data.get("path") or "a table")).name


def _data(study: Study) -> str:
    flow = study.reference.cohort["flow"]
    scale = study.anchor.config["data"].get("scale")
    about = {
        "synthetic": f"The synthetic twin of the survey at scale {scale:g}: invented answers" if scale else "",
        "kwcs": "The Korean Working Conditions Survey, waves 5 and 6",
    }
    source = about.get(study.anchor.source) or f"{_source(study)}, a table and not the paper's survey"
    sides = [f"{show(flow['train'], 'count')} to train", f"{show(flow['test'], 'count')} to test"]
    if flow["validation"]:
        sides.insert(1, f"{show(flow['validation'], 'count')} to validate")
    return f"{source}. {show(flow['cohort'], 'count')} rows in {flow['groups']} groups: {', '.join(sides)}."


def _runs(study: Study) -> str:
    runs = [len(own) for key, own in study.runs.items() if not study.models[key].is_sweep]
    hashes = study.anchor.hashes
    intervals = f"{study.replicates:,} bootstrap resamples" if study.replicates else "no bootstrap intervals"
    return (
        f"{counted(sum(runs), 'run')} of {counted(len(runs), 'model')}, at most {counted(max(runs, default=0), 'seed')} each; "
        f"{intervals}; cohort {hashes['cohort'][:12]}, split {hashes['split'][:12]}."
    )
