"""`kjcm diff`: compare finished runs on the screen, and as one page with tables and the rows whose code changed."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from kjcm.analysis.content import Table
from kjcm.analysis.formats import print_table
from kjcm.analysis.selection import Run
from kjcm.comparison.sides import Side, sides_of
from kjcm.comparison.tables import Bootstrap, config_table, metric_table, pair_tables, side_table
from kjcm.errors import KjcmError, some
from kjcm.files import new_folder, without_formulas, write_text
from kjcm.keys.commands.reports import DiffConfig
from kjcm.keys.composition import typed
from kjcm.keys.overrides import override
from kjcm.reporting.build import write_content
from kjcm.reporting.page import Header, Section, page
from kjcm.reporting.report import rows_with_texts
from kjcm.shell import command_line

PAGE = "diff.html"
TABLES = ("sides", "config", "metrics", "test_?_?", "groups_?_?", "changes_?_?")
KINDS = ("csv", "md", "tex")  # of a table's files
SYNTHETIC = "Runs on the SYNTHETIC twin: their figures say nothing about real answers."

log = logging.getLogger("kjcm")


def diff(cfg: DictConfig) -> None:
    """Compare the runs of `compare`, print the tables, and write them to `out`.

    Raises:
        ConfigError: there are fewer than two settings to compare, or too many.
        KjcmError: a run is not finished or damaged, or `out` contains something else.
    """
    config = typed(cfg, DiffConfig)
    out = Path(config.out).expanduser() if config.out else None
    if out:
        _require_free(out, config.overwrite)
    sides = sides_of(config.compare)
    bootstrap = Bootstrap(config.replicates, config.bootstrap_seed)
    first, *others = sides
    sections = [
        Section("sides", "Runs", "", [side_table(sides)]),
        Section("config", "Config", "", [config_table(sides)]),
        Section("metrics", "Metrics", "", [metric_table(sides)]),
    ]
    changed: dict[str, pd.DataFrame] = {}
    for other in others:
        tables = []
        for table, rows in pair_tables(first, other, bootstrap):
            tables.append(table)
            if rows is not None:
                changed[f"rows_{first.label}_{other.label}"] = rows
        sections.append(Section(f"pair_{other.label}", f"{other.label} and {first.label}", "", tables))
    synthetic = any(run.report["synthetic"] for side in sides for run in side.runs)
    for section in sections:
        for content in section.content:
            assert isinstance(content, Table)
            print_table(content, f"see {out / 'tables'}." if out else "set out=FOLDER.")
    if synthetic:
        log.info(SYNTHETIC)
    if out:
        _write(out, config, sides, sections, changed, synthetic=synthetic)
        log.info("comparison in %s", out / PAGE)


def _require_free(out: Path, overwrite: bool) -> None:
    """Raise KjcmError unless `out` is empty, or has a comparison that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    own = [out / PAGE, out / "tables", *out.glob("rows_?_?.csv")]
    own += [file for name in TABLES for kind in KINDS for file in out.glob(f"tables/{name}.{kind}")]
    if other := sorted({*out.iterdir(), *out.glob("tables/*")} - set(own)) if out.is_dir() else [out]:
        raise KjcmError(
            f"out={out}: contains {some([str(one) for one in other])}, which is no comparison's. Choose another folder."
        )
    if not overwrite:
        raise KjcmError(f"out={out}: exists. Add overwrite=true to replace it.")


def _write(
    out: Path,
    config: DiffConfig,
    sides: Sequence[Side],
    sections: Sequence[Section],
    changed: dict[str, pd.DataFrame],
    *,
    synthetic: bool,
) -> None:
    """Write the page, its tables, and the changed rows as CSV, whole or not at all."""
    labels = ", ".join(f"{side.label}: {side.first.name} ({side.first.path.name})" for side in sides)
    files = ", ".join(f"{name}.csv" for name in changed)
    facts = [("Runs", labels), *([("Changed rows", files)] if files else [])]
    how = [override(key, getattr(config, key)) for key in ("texts", "replicates", "bootstrap_seed")]
    command = command_line(["kjcm", "diff", *config.compare, *how])
    lead = ("Each setting is compared with the first, A.",)
    text = page(Header("Comparison of runs", lead, facts, command, paper=False), synthetic, sections)
    texts = _texts(sides[0].first, wanted=config.texts)
    with new_folder(out) as part:
        for section in sections:
            for table in section.content:
                write_content(part, table)
        for name, rows in changed.items():
            frame = rows if texts is None else rows.merge(texts, on="id", how="left", validate="one_to_one")
            without_formulas(frame).to_csv(part / f"{name}.csv", index=False, encoding="utf-8-sig")
        write_text(part / PAGE, text)


def _texts(run: Run, *, wanted: bool) -> pd.DataFrame | None:
    """Return id and text of a run's rows; None if texts must not be shown."""
    rows = rows_with_texts(run, wanted)
    return None if rows is None else rows[["id", "text"]].astype({"id": str})
