"""A study to a folder: report.html, every table in three formats, every figure in two, and the disagreements to judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kjcm.errors import KjcmError, counted
from kjcm.files import atomic, read_json, write_json, write_text
from kjcm.report import experiments, further, review, tables, triage
from kjcm.report.content import Column, Estimate, Figure, Table
from kjcm.report.drawing import png, svg
from kjcm.report.experiments import Experiment
from kjcm.report.formats import as_csv, as_latex, as_markdown
from kjcm.report.ours import figures_of
from kjcm.report.page import Section, page
from kjcm.report.paper import Printed, counts_of_verdicts, load_paper, verdict_table
from kjcm.report.study import MAIN, Study
from kjcm.report.tables import Content

MANIFEST = "report.json"
PAGE = "report.html"
# Printed figures that the first table leaves to their own sections.
ELSEWHERE = ("table_4", "supplementary_table_3.k_jcm")

NAMING, NAMED = ("where", "row", "metric"), "{}. {}: {}"  # the first columns of a verdict table, and these in one
FLOW = ("figure_1", "abstract", "methods")

Maker = Callable[[Study, Experiment], Sequence[Content]]


def makers(verdicts: review.Verdicts) -> dict[str, Maker]:
    """Return the functions that an experiment may name."""
    plain: tuple[Maker, ...] = (
        tables.flow_chart, tables.wording_examples, tables.example_output, tables.evaluation_metrics, tables.precision_by_size,
        tables.precision_by_major, tables.every_group, tables.top_k, tables.sizes_by_precision, tables.own_common_and_all,
        further.comparisons, further.digits, further.texts, further.waves, further.head_and_tail, further.all_groups,
        further.search, further.runs_found, triage.calibration, triage.triage,
    )  # fmt: skip
    judged = {
        f"judged_{verdict.replace(' ', '_')}": partial(review.judged, verdict=verdict, verdicts=verdicts)
        for verdict in review.VERDICTS
    }
    return {**{maker.__name__: maker for maker in plain}, **judged}


def require_free(out: Path, study_hash: str, overwrite: bool) -> None:
    """Raise KjcmError unless `out` is empty, or holds a report of this very study, which is made anew.

    Args:
        out: the folder to write.
        study_hash: of the data and the classification, see `kjcm.report.runs.study_hash`.
        overwrite: replace another study's report.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / MANIFEST).is_file():
        raise KjcmError(f"{out} exists and is no report. Choose another out=DIR.")
    found = read_json(out / MANIFEST)
    if not isinstance(found, dict) or "study" not in found:
        raise KjcmError(f"{out / MANIFEST} is not a report's. Choose another out=DIR.")
    if found["study"] != study_hash and not overwrite:
        raise KjcmError(
            f"{out} holds the report of another study. Choose another out=DIR, or add overwrite=true "
            "(with which `kjcm reproduce` trains everything anew)."
        )


def build(study: Study, out: Path, study_hash: str, only: Sequence[str], judged: Path | None) -> Table:
    """Write the report of a study into `out`; return the verdict table.

    Args:
        study: the study.
        out: a folder that `require_free` let pass.
        study_hash: what names the study in the manifest.
        only: experiments to build, () for all.
        judged: a file of disagreements with a person's verdicts, or None.

    Raises:
        KjcmError: predictions or verdicts are not usable; nothing is written then.
    """
    place = experiments.folder()
    wanted = experiments.load_experiments(place, tuple(only))
    paper = load_paper(place / "paper.yaml")
    verdicts = review.read_verdicts(judged) if judged else {}
    to_judge = review.disagreements(study, verdicts) if MAIN in study.runs else None
    if to_judge:
        review.require_kept(out / review.FILE, verdicts)
        if judged:
            review.require_known(verdicts, to_judge, judged)
    ours = figures_of(study)
    whole = verdict_table(paper, ours, study.comparable)
    functions = makers(verdicts)
    sections = [_section(study, one, functions, paper, ours) for one in wanted]
    sections.insert(0, _verdict_section(study, paper, ours, whole))
    contents = {one.key: one for section in sections for one in section.content} | {whole.key: whole}
    text = page("K-JCM: the article and this study", _lead(study), study.synthetic, sections)
    _remove_others(out, set(contents))
    # first, so that a report that was interrupted can be made again in its folder
    write_json(out / MANIFEST, {"study": study_hash, "synthetic": study.synthetic, "contents": sorted(contents)})
    for one in contents.values():
        write_content(out, one)
    if to_judge:
        _write_csv(out / review.FILE, to_judge)
    write_text(out / PAGE, text)
    return whole


def _remove_others(out: Path, keys: set[str]) -> None:
    """Remove tables and figures that an earlier report wrote into `out` and this one does not: none is to look current."""
    if not (out / MANIFEST).is_file():
        return
    earlier = set(read_json(out / MANIFEST).get("contents", ())) - keys
    for file in (*out.glob("tables/*"), *out.glob("figures/*")):
        if file.stem in earlier:
            file.unlink()


def _verdict_section(study: Study, paper: Mapping[str, Printed], ours: Mapping[str, Estimate], whole: Table) -> Section:
    """Return the first section: the figures at hand that runs give, but for those that stand again elsewhere."""
    at_hand = [
        figure
        for name, figure in paper.items()
        if figure.compared and figure.printed is not None and not _is_of(name, ELSEWHERE)
    ]
    results_first = sorted(at_hand, key=lambda figure: _is_of(figure.id, FLOW))
    short = {figure.id: figure for figure in results_first}
    counts = ", ".join(f"{count} {name}" for name, count in counts_of_verdicts(whole).items() if count)
    notes = (
        f"All {len(whole.rows)} figures (tables/{whole.key}.csv): {counts}. Those of Table 4, and a remark "
        "on each, stand with their tables.",
        "match: within half of the last printed digit plus our 95 % interval; not comparable: not the article's survey.",
    )
    shown = _beside(study, short, ours, "verdicts_short", whole.title, without=("remark",))
    return Section("verdicts", whole.title, "", [replace(shown, notes=(*shown.notes, *notes))], "kjcm report")


def _beside(
    study: Study,
    printed: Mapping[str, Printed],
    ours: Mapping[str, Estimate],
    key: str,
    title: str,
    without: Sequence[str] = (),
) -> Table:
    """Return the verdicts on some printed figures: where, row and metric in one column, and none that is empty throughout."""
    table = verdict_table(printed, _only(ours, printed), study.comparable)
    keep = [
        place
        for place, column in enumerate(table.columns)
        if place >= len(NAMING) and column.name not in without and any(row[place] for row in table.rows)
    ]
    return replace(
        table,
        key=key,
        title=title,
        columns=(Column("figure"), *(table.columns[place] for place in keep)),
        rows=tuple((NAMED.format(*row[: len(NAMING)]), *(row[place] for place in keep)) for row in table.rows),
    )


def _only(ours: Mapping[str, Estimate], printed: Mapping[str, Printed]) -> dict[str, Estimate]:
    return {name: figure for name, figure in ours.items() if name in printed}


def _lead(study: Study) -> list[str]:
    """Return what the page says first: of which data and runs it is."""
    flow = study.reference.cohort["flow"]
    runs = [len(own) for key, own in study.runs.items() if not study.models[key].is_sweep]
    source = {
        "synthetic": "the synthetic twin of the survey: invented answers",
        "kwcs": "the Korean Working Conditions Survey",
    }
    hashes = study.anchor.hashes
    data = source.get(study.anchor.source, "texts and codes of a table, not the article's survey")
    intervals = f"{study.replicates:,} bootstrap resamples" if study.replicates else "no bootstrap intervals"
    return [
        f"Data: {data}; {flow['cohort']:,} rows in {flow['groups']} groups, {flow['train']:,} to train and "
        f"{flow['test']:,} to test.",
        f"{counted(sum(runs), 'run')} of {counted(len(runs), 'model')}, at most {counted(max(runs), 'seed')} each; "
        f"{intervals}; cohort {hashes['cohort'][:12]}, split {hashes['split'][:12]}.",
    ]


def write_content(out: Path, content: Content) -> None:
    """Write a table as CSV, Markdown and LaTeX, a figure as SVG and PNG with its numbers as CSV."""
    if isinstance(content, Figure):
        drawn = content.draw()
        for suffix, data in (("svg", svg(drawn)), ("png", png(drawn))):
            with atomic(out / "figures" / f"{content.key}.{suffix}") as temporary:
                temporary.write_bytes(data)
        _write_csv(out / "figures" / f"{content.key}.csv", content.data)
        return
    _write_csv(out / "tables" / f"{content.key}.csv", content)
    write_text(out / "tables" / f"{content.key}.md", as_markdown(content))
    write_text(out / "tables" / f"{content.key}.tex", as_latex(content))


def _write_csv(file: Path, table: Table) -> None:
    """Write a table as CSV, with a mark at its beginning by which spreadsheet programs know UTF-8."""
    write_text(file, "\ufeff" + as_csv(table))


def _section(
    study: Study,
    one: Experiment,
    functions: Mapping[str, Maker],
    paper: Mapping[str, Printed],
    ours: Mapping[str, Estimate],
) -> Section:
    if one.function not in functions:
        raise KjcmError(
            f"experiments/{one.key}.yaml, function: no {one.function!r}; there are {', '.join(sorted(functions))}."
        )
    content = list(functions[one.function](study, one))
    printed = {name: figure for name, figure in paper.items() if _is_of(name, one.printed)}
    if printed:
        content.append(_beside(study, printed, ours, f"{one.key}_verdicts", "The article and this study"))
    return Section(one.key, one.heading, one.claim, content, one.command)


def _is_of(name: str, beginnings: Sequence[str]) -> bool:
    return any(name == beginning or name.startswith(f"{beginning}.") for beginning in beginnings)
