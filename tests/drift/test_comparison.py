"""Two-sample tests by permutation: size, power, adjusted intervals."""

import numpy as np
import pandas as pd
import pytest

from kjcm.drift.comparison import MOST_TESTS, Measured, compare, detectable_share, require_exchanges
from kjcm.errors import ConfigError
from tests.drift.simulation import CLASSES, rejections, rows_of


def test_files_like_the_held_rows_are_rarely_rejected() -> None:
    """Of 200 draws at most 21 may reject at 5 %, but for a chance of 0.1 %."""
    found = rejections(np.random.default_rng(1), 60, 90, 200, 199)
    assert found["any"] <= 21 / 200 and found["classes"] <= 21 / 200


def test_the_smallest_found_difference_is_found_with_a_chance_of_80_percent() -> None:
    random = np.random.default_rng(2)
    tests, _ = compare(rows_of(random, 4000), rows_of(random, 400), CLASSES, level=0.05, exchanges=199, seed=0)
    least = {one.name: one.detectable for one in tests}
    longer = rejections(random, 300, 400, 60, 199, longer=least["characters"] * _wider(4000, 300, 400) / 2)
    gained = rejections(random, 300, 400, 60, 199, gains=least["major groups"] * _wider(4000, 300, 400))
    assert 0.6 <= longer["characters"] <= 0.95 and 0.6 <= gained["major groups"] <= 0.98


def _wider(before: int, held: int, file: int) -> float:
    """Return by how much a smallest difference grows from `before` held-out rows to `held`."""
    return float(np.sqrt((1 / held + 1 / file) / (1 / before + 1 / file)))


def test_means_differences_and_moved_classes() -> None:
    random = np.random.default_rng(3)
    held, file = rows_of(random, 800), rows_of(random, 900, longer=0.5, gains=0.2)
    tests, moved = compare(held, file, CLASSES, level=0.05, exchanges=499, seed=0)
    by_name = {one.name: one for one in tests}
    length = by_name["characters"]
    assert length.held == held.features["characters"].mean() and length.file == file.features["characters"].mean()
    assert length.held is not None and length.low is not None and length.high is not None
    assert 0 < length.low < 1 < length.high < 2 and length.p == 1 / 500
    assert by_name["empty"].adjusted > 0.05 and by_name["major groups"].adjusted <= 0.05
    assert {"10", "11", "12"} < {one.code for one in moved[:4]} and moved[0].adjusted <= 0.05
    first = next(one for one in moved if one.code == "12")
    place = CLASSES.index(first.code)
    assert first.held == pytest.approx(held.probability[:, place].mean()) and first.low > 0


def test_equal_columns_and_one_group_have_p_1() -> None:
    features = pd.DataFrame({"same": np.ones(30)})
    same = Measured(features, {"codes": np.array(["1"] * 30, object)}, np.ones((30, 1)))
    tests, moved = compare(same, same, ["1"], level=0.05, exchanges=199, seed=0)
    assert [(one.name, one.p, one.detectable) for one in tests] == [("codes", 1, 1)] and moved[0].adjusted == 1


@pytest.mark.parametrize(("confidence", "needed"), [(0.5, 17), (0.9, 90), (0.95, 179), (0.99, 899), (0.9999, 90000)])
def test_exchanges_that_can_be_significant(confidence: float, needed: int) -> None:
    """The smallest adjusted p is 9 / (exchanges + 1); binary fractions may need one exchange more."""
    require_exchanges(needed, 1 - confidence)
    assert MOST_TESTS / (needed + 1) <= 1 - confidence
    with pytest.raises(ConfigError, match=f"at least {needed}"):
        require_exchanges(needed - 1, 1 - confidence)


def test_a_share_that_must_be_gained() -> None:
    """Two groups of one half: w = sqrt(7.849 (n + m) / nm), Cohen's table for one degree of freedom at 5 %."""
    majors = np.array(["1", "2"] * 50, object)
    assert detectable_share(majors, 2, 100, 100, 0.05) == pytest.approx(np.sqrt(7.849 / 50) / 2, rel=1e-3)
    assert detectable_share(majors, 2, 2, 2, 0.05) == 1
