"""Write a study's report: report.html, tables in three formats, figures in two, and the disagreements to judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kjcm.analysis import experiments
from kjcm.analysis.content import Column, Estimate, Figure, Table, Value
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import as_csv, as_latex, as_markdown, show
from kjcm.analysis.study import MAIN, Study
from kjcm.errors import KjcmError, some
from kjcm.files import atomic, write_json, write_text
from kjcm.plot.style import png, svg
from kjcm.records import read_json
from kjcm.reporting import disagreements, figures, further, probabilities, result, tables
from kjcm.reporting.ours import figures_of
from kjcm.reporting.page import Section, page
from kjcm.reporting.paper import Printed, counts_of_verdicts, load_paper, verdict_table
from kjcm.reporting.tables import Content

MANIFEST = "report.json"
CONTENTS = {"study": str, "contents?": [str], "only?": ([str], None)}
PAGE = "report.html"
# Printed figures that only their own sections show, not the first table.
ELSEWHERE = ("table_4", "supplementary_table_3.k_jcm")

NAMING, NAMED = ("where", "row", "metric"), "{}. {}: {}"  # first columns of a verdict table, and their merged form
FLOW = ("figure_1", "abstract", "methods")
BESIDE = "_verdicts"  # suffix of tables that compare with the paper

Maker = Callable[[Study, Experiment], Sequence[Content]]


def makers(verdicts: disagreements.Verdicts, paper: Mapping[str, Printed]) -> dict[str, Maker]:
    """Return the functions that an experiment may name."""
    plain: tuple[Maker, ...] = (
        figures.flow_chart, tables.wording_examples, tables.example_output, tables.evaluation_metrics, figures.precision_by_size,
        tables.precision_by_major, tables.every_group, tables.top_k, figures.sizes_by_precision, tables.own_common_and_all,
        further.comparisons, further.digits, further.texts, further.waves, further.head_and_tail, further.all_groups,
        further.search, further.runs_found, probabilities.calibration, probabilities.triage,
    )  # fmt: skip
    judged = {
        f"judged_{verdict.replace(' ', '_')}": partial(disagreements.judged, verdict=verdict, verdicts=verdicts)
        for verdict in disagreements.VERDICTS
    }
    return {**{maker.__name__: maker for maker in plain}, **judged, "result": partial(result.result, paper=paper)}


def require_free(out: Path, study_hash: str, overwrite: bool, only: Sequence[str]) -> None:
    """Raise KjcmError unless `out` is empty, or contains a report of this very study that loses no section.

    Args:
        out: the folder to write.
        study_hash: hash of the data and the classification, see `kjcm.analysis.selection.study_hash`.
        overwrite: replace another study's report, and one with more sections.
        only: experiments to build, () for all.

    Raises:
        ConfigError: `only` names an experiment that does not exist.
    """
    place = experiments.folder()
    experiments.load_experiments(place, tuple(only))
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / MANIFEST).is_file():
        raise KjcmError(f"{out} exists and is not a report. Choose another out=DIR.")
    found = read_json(out / MANIFEST, CONTENTS)
    if overwrite:
        return
    if found["study"] != study_hash:
        raise KjcmError(
            f"{out} contains the report of another study. Choose another out=DIR, or add overwrite=true "
            "(with which `kjcm reproduce` retrains everything)."
        )
    earlier = found.get("only") or [one.key for one in experiments.load_experiments(place)]
    if lost := [key for key in earlier if only and key not in (experiments.ALWAYS, *only)]:
        raise KjcmError(
            f"{out} contains a report with {some(lost)}, which only=[{','.join(only)}] would remove. Choose another out=DIR, "
            "or leave out only=."
        )


def build(study: Study, out: Path, study_hash: str, only: Sequence[str], judged: Path | None, command: str) -> Table:
    """Write the report of a study into `out`; return the verdict table.

    Args:
        study: the study.
        out: a folder that `require_free` accepted.
        study_hash: identifies the study in the manifest.
        only: experiments to build, () for all.
        judged: a file of disagreements with a reviewer's verdicts, or None.
        command: the command that makes this report from any folder.

    Raises:
        KjcmError: predictions or verdicts are not usable; then nothing is written.
    """
    place = experiments.folder()
    wanted = experiments.load_experiments(place, tuple(only))
    paper = load_paper(place / "paper.yaml")
    verdicts = disagreements.read_verdicts(judged) if judged else {}
    to_judge = disagreements.disagreements(study, verdicts) if MAIN in study.runs else None
    if to_judge:
        disagreements.require_kept(out / disagreements.FILE, verdicts)
        if judged:
            disagreements.require_known(verdicts, to_judge, judged)
    ours = figures_of(study)
    whole = verdict_table(paper, ours, study.comparable)
    functions = makers(verdicts, paper)
    sections = [_section(study, one, functions, paper, ours) for one in wanted]
    sections.insert(1, _verdict_section(study, paper, ours, whole))
    sections += _not_run(study, wanted, sections)
    contents = {one.key: one for section in sections for one in section.content} | {whole.key: whole}
    text = page(
        result.header(study, paper, command), study.synthetic, [one for one in map(_filled, sections) if one.content]
    )
    _remove_others(out, set(contents))
    # The manifest is written first, so that an interrupted report can be rebuilt in the same folder.
    write_json(
        out / MANIFEST,
        {"study": study_hash, "synthetic": study.synthetic, "only": list(only), "contents": sorted(contents)},
    )
    for one in contents.values():
        write_content(out, one)
    if to_judge:
        _write_csv(out / disagreements.FILE, to_judge)
    write_text(out / PAGE, text)
    return whole


def _filled(section: Section) -> Section:
    """Return a section without empty tables and columns; without any content if none comes from our runs."""
    content = [
        one if isinstance(one, Figure) else _narrowed(one)
        for one in section.content
        if isinstance(one, Figure) or one.rows_run
    ]
    return replace(section, content=content if any(not _is_beside(one) for one in content) else [])


def _narrowed(table: Table) -> Table:
    """Return a table without the columns that are empty in every row."""
    keep = [place for place in range(len(table.columns)) if any(row[place] not in (None, "") for row in table.rows)]
    columns = tuple(table.columns[place] for place in keep)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in keep) for row in table.rows))


def _is_beside(content: Content) -> bool:
    return content.key.endswith(BESIDE)


def _not_run(study: Study, wanted: Sequence[Experiment], sections: Sequence[Section]) -> list[Section]:
    """Return the last section: models that are not run, with their commands, and sections that have nothing to show."""
    headings = {section.key: section.heading for section in sections}
    rows: list[tuple[Value, ...]] = []
    for key in study.models:
        uses = [headings[one.key] for one in wanted if key in one.runs]
        if uses and (missing := study.missing((key,))):
            rows.append((missing[0][0], "; ".join(uses), missing[0][1]))
    absent = Table(
        "not_run",
        "Models that are not run",
        (Column("Model"), Column("Shown in"), Column("Command", "code")),
        tuple(rows),
    )
    empty = [section for section in sections if not _filled(section).content]
    left = tuple((section.heading, _why_empty(section)) for section in empty)
    return [
        Section(
            "not_run",
            "Not run",
            "",
            [absent, Table("left_out", "Sections without results", (Column("Section"), Column("Why")), left)],
        )
    ]


def _why_empty(section: Section) -> str:
    """Return why a section has no results."""
    own = [one for one in section.content if isinstance(one, Table) and not _is_beside(one)]
    labels = dict.fromkeys(label for one in own for label, _ in one.missing)
    if labels:
        return f"Not run: {', '.join(labels)}."
    return " ".join(dict.fromkeys(note for one in own for note in one.notes))


def _remove_others(out: Path, keys: set[str]) -> None:
    """Remove an earlier report's tables and figures that this report lacks, so that none looks current."""
    if not (out / MANIFEST).is_file():
        return
    earlier = set(read_json(out / MANIFEST, CONTENTS).get("contents", ())) - keys
    for file in (*out.glob("tables/*"), *out.glob("figures/*")):
        if file.stem in earlier:
            file.unlink()


def _verdict_section(study: Study, paper: Mapping[str, Printed], ours: Mapping[str, Estimate], whole: Table) -> Section:
    """Return the section that compares the paper's figures with ours, except those that other sections show."""
    at_hand = [
        figure
        for name, figure in paper.items()
        if figure.compared and figure.printed is not None and not _is_of(name, ELSEWHERE)
    ]
    results_first = sorted(at_hand, key=lambda figure: _is_of(figure.id, FLOW))
    short = {figure.id: figure for figure in results_first}
    counts = ", ".join(f"{count} {name}" for name, count in counts_of_verdicts(whole).items() if count)
    note = f"All {len(whole.rows)} figures of the paper (tables/{whole.key}.csv): {counts}."
    shown = _beside(study, short, ours, "verdicts_short", whole.title, without=("remark",))
    return Section("verdicts", whole.title, "", [replace(shown, notes=(*shown.notes, note))])


def _beside(
    study: Study,
    printed: Mapping[str, Printed],
    ours: Mapping[str, Estimate],
    key: str,
    title: str,
    without: Sequence[str] = (),
) -> Table:
    """Return the verdicts on some printed figures: where, row and metric in one column, without empty columns.

    If the data are not the paper's, the page folds the table, because its figures cannot be compared.
    """
    table = verdict_table(printed, _only(ours, printed), study.comparable)
    keep = [place for place, column in enumerate(table.columns) if place >= len(NAMING) and column.name not in without]
    shown = replace(
        table,
        key=key,
        title=title,
        columns=(Column("figure"), *(table.columns[place] for place in keep)),
        rows=tuple((NAMED.format(*row[: len(NAMING)]), *(row[place] for place in keep)) for row in table.rows),
    )
    count = show(len(table.rows), "count")
    return replace(
        _narrowed(shown), summary="" if study.comparable else f"The paper's figures, of another data set ({count})"
    )


def _only(ours: Mapping[str, Estimate], printed: Mapping[str, Printed]) -> dict[str, Estimate]:
    return {name: figure for name, figure in ours.items() if name in printed}


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
    """Write a table as CSV, with a byte order mark so that spreadsheet programs detect UTF-8."""
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
        content.append(_beside(study, printed, ours, f"{one.key}{BESIDE}", "The paper and this study"))
    return Section(one.key, one.heading, one.claim, content)


def _is_of(name: str, beginnings: Sequence[str]) -> bool:
    return any(name == beginning or name.startswith(f"{beginning}.") for beginning in beginnings)
