"""Compute rows' exposures: of the most likely code, expected over all codes, and imputed by draws of a code."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kjcm.coding.distributions import Distributions
from kjcm.exposure.matrix import Exposures, Matrix

Column = NDArray[np.float64]  # [rows]


@dataclass(frozen=True)
class AgentRows:
    """Rows' exposures to an agent.

    Attributes:
        values: name of a measure (top, expected, draw_1, ..., and with prevalence weighted_top, ...) -> exposures [rows], nan
            for rows without a code or without exposure data.
        without_data: [rows], the shown probability of codes without exposure data; nan for rows without a code.
    """

    values: dict[str, Column]
    without_data: Column


def measures(draws: int, *, prevalence: bool) -> list[str]:
    """Return the names of an agent's measures, in the order of the output."""
    names = ["top", "expected", *(f"draw_{number}" for number in range(1, draws + 1))]
    return [*names, *(f"weighted_{name}" for name in names if prevalence)]


def agent_rows(rows: Distributions, matrix: Matrix, draws: int, generator: np.random.Generator) -> Iterator[AgentRows]:
    """Yield the rows' exposures to each agent of a matrix.

    The expected exposure is the mean over the shown codes with exposure data, weighted by their probabilities. A draw is the
    exposure of one of these codes, drawn with these probabilities. Agents with data for the same codes have the same draws,
    so that their exposures stay correlated.
    """
    exposures = matrix.of(rows.codes)
    chances = generator.random((len(rows.settled), draws))
    drawn: dict[bytes, NDArray[np.intp]] = {}
    for number in range(len(matrix.agents)):
        known = ~np.isnan(exposures.level[:, number])
        key = known.tobytes()
        if key not in drawn:
            drawn[key] = draw(rows.probability * known, chances)
        yield _of_agent(rows, exposures, number, known, drawn[key], prevalence=matrix.has_prevalence)


def _of_agent(
    rows: Distributions,
    exposures: Exposures,
    number: int,
    known: NDArray[np.bool_],
    drawn: NDArray[np.intp],
    *,
    prevalence: bool,
) -> AgentRows:
    """Return the rows' exposures to the agent of this number; known: [codes], drawn: [rows, draws]."""
    coded, mass = rows.coded, rows.probability @ known
    level = exposures.level[:, number]
    values: dict[str, Column] = {}
    scales = [("", level), ("weighted_", level * exposures.prevalence[:, number])]
    for lead, scale in scales if prevalence else scales[:1]:
        padded = np.append(scale, np.nan)  # the place -1 is of rows without a code
        values[f"{lead}top"] = padded[np.where(coded, rows.top, -1)]
        total = rows.probability @ np.nan_to_num(scale)
        values[f"{lead}expected"] = np.divide(total, mass, out=np.full(len(total), np.nan), where=mass > 0)
        for place, column in enumerate(drawn.T, 1):
            values[f"{lead}draw_{place}"] = padded[np.where(mass > 0, column, -1)]
    return AgentRows(values, np.where(coded, rows.probability @ ~known, np.nan))


def draw(probability: NDArray[np.float64], chances: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the place of a code for each chance: [rows, draws], drawn with probabilities that are proportional to these.

    Args:
        probability: [rows, codes].
        chances: [rows, draws], uniform between 0 and 1.
    """
    sums = probability.cumsum(axis=1)
    total = sums[:, -1] if sums.shape[1] else np.zeros(len(sums))
    places = [(sums <= (chance * total)[:, None]).sum(axis=1) for chance in chances.T]
    found = np.array(places, np.intp).reshape(chances.shape[1], len(probability)).T
    return np.minimum(found, max(probability.shape[1] - 1, 0))
