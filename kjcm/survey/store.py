"""Convert a cohort to arrays and back, for the cache: frames as Parquet, the rest as JSON."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.survey.cohort import Cohort

FRAMES = ("rows", "left", "to_resolve")

Arrays = Mapping[str, NDArray[Any]]


def arrays_of(cohort: Cohort) -> Arrays:
    """Return the cohort as arrays of bytes."""
    parts = dict(vars(cohort))
    stored = {name: parts.pop(name).to_parquet(None) for name in FRAMES}
    stored["rest"] = json.dumps(parts).encode()
    return {name: np.frombuffer(content, np.uint8) for name, content in stored.items()}


def cohort_from(arrays: Arrays) -> Cohort:
    """Return the cohort from arrays that `arrays_of` made."""
    rest = json.loads(arrays["rest"].tobytes())
    rest["classes"] = tuple(rest["classes"])
    rest["left_groups"] = {code: tuple(counts) for code, counts in rest["left_groups"].items()}
    rest |= {name: pd.read_parquet(io.BytesIO(arrays[name].tobytes())) for name in FRAMES}
    return Cohort(**rest)
