"""The invented study of the report's tests."""

from tests.report.conftest import built as built
from tests.report.conftest import copied as copied
from tests.report.conftest import study as study
from tests.report.conftest import undrawn as undrawn
