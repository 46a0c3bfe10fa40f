"""The twin at the paper's size, built once."""

import pytest

from kjcm.ksco.classification import Classification
from kjcm.survey.cohort import Cohort
from kjcm.survey.responses import Source
from kjcm.survey.twin import synthetic_source
from tests.conftest import COLUMNS
from tests.survey.making import cohort_from


@pytest.fixture(scope="session")
def twin(ksco: Classification) -> Source:
    return synthetic_source(1.0, 0, COLUMNS, ksco)


@pytest.fixture(scope="session")
def paper(twin: Source, ksco: Classification) -> Cohort:
    """K-JCM's cohort on the twin."""
    return cohort_from(twin, ksco)
