"""A run's model as the last resort of a search: it codes the query as a position, because queries are job titles."""

from functools import lru_cache
from pathlib import Path
from threading import Lock

import pandas as pd

from kjcm.search.engine import FROM_MODEL, Scorer

ROLES = ("position", "task", "workplace")  # the query takes the first of these that the run was trained with


def scorer_of(folder: Path) -> Scorer:
    """Return a function that gives a query's most likely codes by a model, which is loaded at the first query.

    Args:
        folder: the model folder.
    """
    lock = Lock()  # one query at a time loads or runs the model

    @lru_cache(maxsize=1)
    def loaded() -> Scorer:
        return _scorer(folder)

    @lru_cache(maxsize=32)
    def scores(query: str) -> list[tuple[str, float]]:
        with lock:
            return list(loaded()(query))

    return scores


def _scorer(folder: Path) -> Scorer:
    from kjcm.coding.chunks import probability_chunks
    from kjcm.coding.ensemble import coder_of
    from kjcm.coding.rows import Reading, reads_answers
    from kjcm.run_folder.held_out import calibration_of
    from kjcm.run_folder.model_folder import load_settings
    from kjcm.survey.texts import NO_LABELS

    settings = load_settings(folder)
    role = next((role for role in ROLES if settings.columns.get(role)), ROLES[0])
    covariates = dict.fromkeys(settings.covariates.kinds, "")
    reading = Reading(
        "the query", {role: role}, "none", settings.manager_words, [], NO_LABELS, None, settings.wording, settings.covariates,
        reads_answers(settings), "missing",
    )  # fmt: skip
    calibration = calibration_of(folder)
    temperature = float(calibration["temperature"]) if calibration else 1.0
    coder = coder_of(folder, None, "cpu", "32-true", temperature, compiled=False)

    def scores(query: str) -> list[tuple[str, float]]:
        frame = pd.DataFrame([{role: query, **covariates}], dtype=object)
        ((reasons, found),) = probability_chunks([frame], reading, coder, lambda probability, _: probability)
        if any(reasons):  # a query without text for the model
            return []
        likely = (-found[0]).argsort(kind="stable")[:FROM_MODEL]
        return [(settings.classes[place], float(found[0, place])) for place in likely]

    return scores
