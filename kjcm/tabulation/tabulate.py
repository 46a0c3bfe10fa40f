"""`kjcm tabulate`: shares of occupations, from top-1 codes and from the probabilities of all codes."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.coding.distributions import DistributionReader, Distributions
from kjcm.errors import CUT, ConfigError, KjcmError, counted
from kjcm.files import atomic, require_file, write_json
from kjcm.keys.commands.exposures import TabulateConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import load_classification, read_classification
from kjcm.read.cells import code_texts, tidy
from kjcm.read.options import ReadOptions, read_options
from kjcm.read.table import read_chunks, table_columns
from kjcm.tabulation.shares import Tally
from kjcm.write.table import Added, target_of, writer

CHUNK = 8192
ESTIMATES = (
    "top1_share", "top1_se", "top1_low", "top1_high", "share", "se_sampling", "se_coding", "se", "low", "high",
)  # fmt: skip

log = logging.getLogger("kjcm")


def tabulate(cfg: DictConfig) -> None:
    """Write the shares of codes in `input` to `output`, and a record of the counts to `output`.json.

    Raises:
        ConfigError: a key needs another.
        KjcmError: a file is not usable, a weight is not positive, or the output exists.
    """
    config = typed(cfg, TabulateConfig)
    target = target_of(config.output, [config.input, config.titles], overwrite=config.overwrite)
    taken = {"code", "title", "rows", "group_rows", "effective_rows", *ESTIMATES}
    if config.by in taken:
        raise ConfigError(f"by={config.by}: the table has a column of this name. Rename the file's.")
    source = require_file(config.input, "input file")
    titles = _titles(config.titles)
    wanted = {"by": config.by, "weight": config.weight}
    options = read_options(config, "", [source], wanted)
    tallies, record = _tallies(source, config, options, wanted)
    if not tallies:
        raise KjcmError(f"{source}: has no row with a code and a weight. Give a coded file.")
    table = _table(tallies, titles, config)
    labels = dict.fromkeys(map(str, table), "")
    with atomic(target, config.overwrite) as file, writer(file, None, Added(labels, ESTIMATES)) as out:
        out.write(table)
    write_json(Path(f"{target}.json"), record)
    _log(record, table, target)


def _titles(given: str | None) -> Mapping[str, str]:
    """Return code -> title."""
    if given is None:
        return {}
    return (load_classification("ksco7") if given == "ksco7" else read_classification(given)).titles


def _tallies(
    source: Path, config: TabulateConfig, options: ReadOptions, wanted: Mapping[str, str | None]
) -> tuple[dict[str, Tally], dict[str, Any]]:
    """Return value of `by` -> sums over its rows, and the counts."""
    reader, found, own = None, dict[str, Tally](), dict[str, str]()
    rows = coded = done = 0
    hidden = 0.0
    for frame in read_chunks(source, CHUNK, options):
        if reader is None:
            own = table_columns(str(source), frame.columns, wanted, options, "Set {role}=NAME.")
            reader = DistributionReader(source, frame.columns, options, config.columns.code, config.settled)
        given = reader.read(frame)
        weight = _weights(source, frame[own["weight"]], done) if "weight" in own else np.ones(len(frame))
        groups = [tidy(cell) for cell in code_texts(frame[own["by"]])] if "by" in own else [""] * len(frame)
        done += len(frame)
        rows += len(frame)
        use = given.coded & (weight > 0)
        coded += int(use.sum())
        hidden += float(given.hidden[use].sum())
        _add(found, given, np.array(groups, object), weight, use, config.level)
    record = {
        "input": str(source), "by": config.by, "weight": config.weight, "level": config.level,
        "code": config.columns.code, "settled": config.settled, "confidence": config.confidence,
        "rows": rows, "rows_used": coded, "whole_distribution": bool(reader and reader.whole),
        "mean_mass_not_shown": hidden / coded if coded else None,
    }  # fmt: skip
    return found, record


def _weights(source: Path, cells: pd.Series, done: int) -> NDArray[np.float64]:
    """Return a column's weights: [rows].

    Raises:
        KjcmError: a weight is empty, negative or no number.
    """
    texts = code_texts(cells)
    values = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
    fine = np.isfinite(values) & (values >= 0)
    if not fine.all():
        row = int((~fine).argmax())
        raise KjcmError(
            f"{source}, column {cells.name!r}, data row {done + row + 1:,}: {texts[row][:CUT]!r} is no weight. Give numbers, "
            "at least 0."
        )
    return values


def _add(
    found: dict[str, Tally],
    given: Distributions,
    groups: NDArray[Any],
    weight: NDArray[np.float64],
    use: NDArray[np.bool_],
    level: int | None,
) -> None:
    """Add rows to the sums; use: [rows], which rows count."""
    cut: dict[str, list[int]] = {}
    for place, code in enumerate(given.codes):
        cut.setdefault(code[:level], []).append(place)
    places = {code: np.array(those, np.intp) for code, those in cut.items()}
    for group in sorted({*groups[use]}):
        those = use & (groups == group)
        probability = given.probability[those]
        probability = probability / probability.sum(axis=1, keepdims=True)  # the shown codes stand for the others
        found.setdefault(group, Tally()).add(places, probability, given.top[those], weight[those])


def _table(tallies: Mapping[str, Tally], titles: Mapping[str, str], config: TabulateConfig) -> pd.DataFrame:
    """Return the table: a line for each group and code."""
    found = {
        code
        for tally in tallies.values()
        for code in tally.spread
        if tally.spread[code][0] > 0 or tally.top[code][0] > 0
    }
    lines = []
    for group, tally in sorted(tallies.items()):
        for code in sorted(found):
            top, share = tally.from_top(code, config.confidence), tally.from_probabilities(code, config.confidence)
            line: dict[str, Any] = {config.by: group} if config.by else {}
            line |= {"code": code} | ({"title": titles.get(code, "")} if config.titles else {})
            line |= {"rows": int(tally.top[code][0]), "group_rows": tally.rows}
            line |= {"effective_rows": round(tally.effective, 1)}
            values = (
                top.value, top.sampling, top.low, top.high,
                share.value, share.sampling, share.coding, share.error, share.low, share.high,
            )  # fmt: skip
            lines.append(line | dict(zip(ESTIMATES, values, strict=True)))
    return pd.DataFrame(lines)


def _log(record: Mapping[str, Any], table: pd.DataFrame, target: Path) -> None:
    """Log the counts."""
    left = record["rows"] - record["rows_used"]
    log.info("%s; left out without a code or weight: %s", counted(record["rows"], "row"), f"{left:,}")
    if record["mean_mass_not_shown"] and not record["whole_distribution"]:
        log.info(
            "codes that the file does not show have %.1f %% of the probability (mean over rows); the shown codes share it",
            100 * record["mean_mass_not_shown"],
        )
    log.info("shares of %s: %s", counted(table["code"].nunique(), "code"), target)
