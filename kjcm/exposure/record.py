"""Count what an exposure file is made of, log the counts, and find why codes are not in a matrix."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.coding.distributions import Distributions
from kjcm.errors import KjcmError, counted, some
from kjcm.exposure.matrix import Matrix
from kjcm.exposure.rows import AgentRows

FEW = 0.1  # share of the rows; if fewer have exposure data, the matrix is probably not for these codes
SHOWN = 10  # agents that are logged

log = logging.getLogger("kjcm")


@dataclass
class AgentTotals:
    """Sums over rows for an agent.

    Attributes:
        rows: coded rows whose most likely code has exposure data.
        expected_rows: coded rows of which any shown code has exposure data.
        top: sum of the exposures of the most likely codes.
        expected: sum of the expected exposures.
        without_data: sum of the probabilities without exposure data.
    """

    rows: int = 0
    expected_rows: int = 0
    top: float = 0.0
    expected: float = 0.0
    without_data: float = 0.0

    def add(self, found: AgentRows) -> None:
        """Add rows."""
        top, expected = found.values["top"], found.values["expected"]
        self.rows += int((~np.isnan(top)).sum())
        self.expected_rows += int((~np.isnan(expected)).sum())
        self.top += float(np.nansum(top))
        self.expected += float(np.nansum(expected))
        self.without_data += float(np.nansum(found.without_data))


@dataclass
class Totals:
    """Sums over rows.

    Attributes:
        matrix: the matrix.
        rows: all rows.
        coded: rows with a code.
        settled: rows with one code, by a decision.
        matched: coded rows whose most likely code has a row in the matrix, for any agent.
        hidden: sum of the probabilities that are not shown.
        codes: all codes.
        agents: agent -> its sums.
    """

    matrix: Matrix
    rows: int = 0
    coded: int = 0
    settled: int = 0
    matched: int = 0
    hidden: float = 0.0
    codes: set[str] = field(default_factory=set)
    agents: dict[str, AgentTotals] = field(default_factory=dict)

    def add(self, rows: Distributions, found: Sequence[AgentRows]) -> None:
        """Add rows with their exposures to each agent."""
        coded = rows.coded
        self.rows += len(coded)
        self.coded += int(coded.sum())
        self.settled += int(rows.settled.sum())
        self.hidden += float(np.nansum(rows.hidden))
        self.codes |= {rows.codes[place] for place in np.flatnonzero(rows.probability.any(axis=0))}
        known = np.asarray(~self.matrix.of(rows.codes).absent.all(axis=1), bool)
        self.matched += int(known[rows.top[coded]].sum()) if rows.codes else 0
        for agent, own in zip(self.matrix.agents, found, strict=True):
            self.agents.setdefault(agent, AgentTotals()).add(own)

    def require_matches(self, source: Path) -> None:
        """Raise KjcmError if hardly any row's code is in the matrix; with absent=unexposed, warn if none is."""
        if self.matrix.unexposed and self.coded and not self.matched:
            log.warning(
                "%s: has no row for any top-1 code of %s, so their level is 0. Check the classification.",
                self.matrix.name, source,
            )  # fmt: skip
        if not self.matrix.unexposed and self.coded and self.matched < FEW * self.coded:
            raise KjcmError(
                f"{self.matrix.name}: has exposure data for the codes of {self.matched:,} of {counted(self.coded, 'coded row')} "
                f"in {source}. {likely_cause(self.codes, self.matrix.codes)} If the matrix lists exposed codes only, use "
                "absent=unexposed."
            )

    def record(self) -> dict[str, Any]:
        """Return the counts as they are written."""
        codes = sorted(self.codes)
        exposures = self.matrix.of(codes)
        agents = {}
        for number, (agent, own) in enumerate(self.agents.items()):
            agents[agent] = {
                "rows": own.rows,
                "rows_expected": own.expected_rows,
                "mean_top": own.top / own.rows if own.rows else None,
                "mean_expected": own.expected / own.expected_rows if own.expected_rows else None,
                "codes_by_parent": int(exposures.from_parent[:, number].sum()),
                "codes_without_data": int(np.isnan(exposures.level[:, number]).sum()),
                "mean_mass_without_data": own.without_data / self.coded if self.coded else None,
            }
        without = [code for code, absent in zip(codes, exposures.absent, strict=True) if absent.all()]
        return {
            "rows": self.rows,
            "rows_coded": self.coded,
            "rows_settled": self.settled,
            "rows_matched": self.matched,
            "mean_mass_not_shown": self.hidden / self.coded if self.coded else None,
            "codes": len(codes),
            "codes_without_row": without,
            "agents": agents,
        }


def likely_cause(codes: Collection[str], known: Collection[str]) -> str:
    """Return why a file's codes are not in a matrix, with the remedy."""
    lost = {code.lstrip("0") for code in known if code.startswith("0")}
    padded = {code.lstrip("0") for code in codes if code.startswith("0")}
    both = f"The file has {some(sorted(codes))}, the matrix {some(sorted(known))}."
    if lost & {*codes} or padded & {*known}:
        return f"{both} Leading zeros differ: write the codes alike, as text."
    if any(long.startswith(code) for long in known for code in codes if len(long) > len(code)):
        return f"{both} The matrix is finer: add a row for each code of the file."
    return f"{both} They look like different classifications: `kjcm recode` converts the file's codes."


def log_record(record: Mapping[str, Any], matrix: Matrix, *, whole: bool, target: Path) -> None:
    """Log the counts."""
    left = record["rows"] - record["rows_coded"]
    log.info(
        "%s: %s coded (%s with a settled code), %s without a code",
        counted(record["rows"], "row"), f"{record['rows_coded']:,}", f"{record['rows_settled']:,}", f"{left:,}",
    )  # fmt: skip
    if record["mean_mass_not_shown"] and not whole:
        log.info(
            "codes that the file does not show have %.1f %% of the probability (mean over rows)",
            100 * record["mean_mass_not_shown"],
        )
    if matrix.empty:
        log.info("%s: %s without a level left out", matrix.name, counted(matrix.empty, "row"))
    if record["codes_without_row"]:
        log.info(
            "%s without a row in the matrix%s: %s", counted(len(record["codes_without_row"]), "code"),
            " (level 0)" if matrix.unexposed else "", some(record["codes_without_row"]),
        )  # fmt: skip
    agents = list(record["agents"].items())
    for agent, own in agents[:SHOWN]:
        if own["mean_expected"] is None:
            log.info("%s: no exposure data", agent)
            continue
        log.info(
            "%s: mean of top-1 codes %s (%s), expected %.4g (%s)",
            agent, "none" if own["mean_top"] is None else f"{own['mean_top']:.4g}", counted(own["rows"], "row"),
            own["mean_expected"], counted(own["rows_expected"], "row"),
        )  # fmt: skip
        log.info(
            "%s: %s a parent's row; %.1f %% of the probability has no data",
            agent, counted(own["codes_by_parent"], "code has", "codes have"), 100 * own["mean_mass_without_data"],
        )  # fmt: skip
    if len(agents) > SHOWN:
        log.info("%s more: see %s.json", counted(len(agents) - SHOWN, "agent"), target)
    log.info("exposures: %s", target)
