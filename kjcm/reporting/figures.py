"""The paper's figures, each a function of a study."""

from collections.abc import Sequence

import pandas as pd

from kjcm.analysis.content import Column, Estimate, Figure, Table, Value
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import show
from kjcm.analysis.statistics import Regression
from kjcm.analysis.study import LARGE, MAIN, Study
from kjcm.plot.flow import draw_flow
from kjcm.plot.groups import chance, draw_precision_by_size, draw_sizes_by_precision
from kjcm.reporting.tables import Content

SEVERAL_SEEDS = (
    "With several seeds the picture shows each group's mean precision; R², p and quartiles in the text are means of each "
    "seed's own."
)


def flow_chart(study: Study, this: Experiment) -> Sequence[Content]:
    """Fig. 1: the flow of rows from the files to training and test."""
    run = study.reference
    flow = run.cohort["flow"]
    counts = [(f"read from {name}", rows) for name, rows in flow["read_by_file"].items()]
    names = {
        "read": "read", "unresolved": "lost in code conversion", "invalid": "unusable",
        "below_cutoff": f"in groups of {flow['cutoff']} rows or fewer", "cohort": "cohort", "train": "training",
        "validation": "validation", "unused": "not used", "test": "test",
    }  # fmt: skip
    counts += [(label, flow[name]) for name, label in names.items()]
    counts.append(("groups", flow["groups"]))
    data = Table(this.key, this.heading, (Column("Step"), Column("Rows", "count")), tuple(counts))
    model = study.label(run.name)
    return [
        Figure(
            this.key, this.heading,
            lambda: draw_flow(flow, study.synthetic, model),
            f"{flow['read']:,} rows read; {flow['cohort']:,} in {flow['groups']} groups remain, of which "
            f"{flow['train']:,} train {model} and {flow['test']:,} test it.",
            data,
        )
    ]  # fmt: skip


def precision_by_size(study: Study, this: Experiment) -> Sequence[Content]:
    """Fig. 2: a group's training rows (log axis) against its precision, with the regression on log size."""
    columns = (
        Column("Code"), Column("Title"), Column("English title"), Column("Training rows", "count"),
        Column("Precision", "share"),
    )  # fmt: skip
    if MAIN not in study.runs:
        return [Table(this.key, this.heading, columns, (), (), study.missing((MAIN,)))]
    groups = mean_groups(study, MAIN)
    codes = list(groups.index)
    points = pd.DataFrame(
        {
            "code": codes,
            "title": [study.titles.get(code, "") for code in codes],
            "title_en": [study.english.get(code, "") for code in codes],
            "n_train": groups["n_train"].to_numpy(),
            "precision": groups["precision"].to_numpy(),
            "major": [_major_name(study, study.major(code)) for code in codes],
        }
    )
    drawn = points[list(points)[:5]].itertuples(index=False, name=None)
    estimate = study.post_hoc(MAIN)
    fit = None
    if "r_squared" in estimate:  # the mean of the seeds' lines is the line of the mean precision
        slope, intercept, r_squared, p = (estimate[name].mean for name in ("slope", "intercept", "r_squared", "p"))
        fit = Regression(slope, intercept, r_squared, p, len(points))
    zero = groups["precision"] == 0
    large = int((zero & (groups["n_train"] >= LARGE)).sum())
    notes = (
        _fit_note(estimate),
        f"{int(zero.sum())} of {len(groups)} groups have precision 0, {large} of them with {LARGE} training rows or more. "
        "They are spread out in the grey band.",
        *((SEVERAL_SEEDS,) if len(study.runs[MAIN]) > 1 else ()),
    )
    alt = f"Scatter plot of {len(points)} groups. {notes[0]}"
    return [
        Figure(
            this.key, this.heading, lambda: draw_precision_by_size(points, fit, synthetic=study.synthetic), alt,
            Table(this.key, this.heading, columns, tuple(drawn)), notes,
        )
    ]  # fmt: skip


def _major_name(study: Study, major: str) -> str:
    """Return a major group's code with its title, in English if there is an English title."""
    title = study.classification.title(major, "en") or study.titles.get(major, "")
    return f"{major} {title}".strip()


def _fit_note(estimate: dict[str, Estimate]) -> str:
    if "r_squared" not in estimate:
        return "No regression: too few groups, or all alike."
    return (
        f"Regression of precision on the logarithm of training rows: R² = {show(estimate['r_squared'], 'share')}, "
        f"p {chance(estimate['p'].mean)}."
    )


def sizes_by_precision(study: Study, this: Experiment) -> Sequence[Content]:
    """Supplementary Fig. 1: training rows of groups with precision below 0.5, and at least 0.5, for K-JCM and K-JCM-half."""
    columns = (Column("Model"), Column("Code"), Column("Training rows", "count"), Column("Precision", "share"))
    present = [key for key in this.runs if key in study.runs]
    missing = study.missing(this.runs)
    if not present:
        return [Table(this.key, this.heading, columns, (), (), missing)]
    frames = {key: mean_groups(study, key) for key in present}
    sides = {
        study.label(key): (
            frame["n_train"][frame["precision"] < 0.5].astype(float).tolist(),
            frame["n_train"][frame["precision"] >= 0.5].astype(float).tolist(),
        )
        for key, frame in frames.items()
    }
    drawn: list[tuple[Value, ...]] = [
        (study.label(key), str(code), int(row["n_train"]), float(row["precision"]))
        for key, frame in frames.items()
        for code, row in frame.iterrows()
    ]
    notes = (
        *(_size_note(study.label(key), study.post_hoc(key)) for key in present),
        "The paper infers the training rows that a group needs from the third quartile of the badly coded groups. It writes "
        "'above 0.5', which contradicts its own Table 4. Both sides are shown here.",
        *((SEVERAL_SEEDS,) if any(len(study.runs[key]) > 1 for key in present) else ()),
        *((f"Not run: {', '.join(label for label, _ in missing)}.",) if missing else ()),
    )
    return [
        Figure(
            this.key, this.heading, lambda: draw_sizes_by_precision(sides, synthetic=study.synthetic),
            " ".join(notes[: len(present)]),
            Table(this.key, this.heading, columns, tuple(drawn)), notes,
        )
    ]  # fmt: skip


def _size_note(label: str, found: dict[str, Estimate]) -> str:
    parts = [
        f"{words} 0.5: third quartile of training rows {show(found[f'{side}.q3'], 'number')} "
        f"({show(found[f'{side}.groups'].mean, 'number')} groups)"
        for side, words in (("below", "precision below"), ("above", "precision of at least"))
        if f"{side}.q3" in found
    ]
    inferred = show(found["below.q3"].mean, "number") if "below.q3" in found else "none"
    return f"{label}: {'; '.join(parts)}. Training rows that a group needs, by the paper's rule: {inferred}."


def mean_groups(study: Study, key: str) -> pd.DataFrame:
    """Return each group's figures as means over the runs of a model, by code."""
    frames = study.groups[key]
    return pd.concat(frames).groupby(level=0, sort=True).mean()
