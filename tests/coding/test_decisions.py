"""Texts that were met before: their numbers, and which are new."""

import numpy as np
import pytest

from kjcm.coding.decisions import Known


def meet(known: Known, texts: list[str], manages: list[bool] | None = None) -> tuple[list[int], list[int]]:
    numbers, new = known.meet(texts, np.array(manages or [False] * len(texts), dtype=bool))
    return numbers.tolist(), new.tolist()


def test_texts_are_numbered_as_they_are_met_and_the_first_of_equal_ones_is_new() -> None:
    known = Known()
    assert meet(known, ["용접", "벼농사", "용접", "운전", "벼농사"]) == ([0, 1, 0, 2, 1], [0, 1, 3])
    assert meet(known, ["운전", "용접"]) == ([2, 0], [])
    assert meet(known, []) == ([], [])
    assert meet(known, ["벼농사", "요리", "운전", "요리", "청소"]) == ([1, 3, 2, 3, 4], [1, 4])
    assert len(known) == 5


def test_the_same_text_of_one_who_manages_and_of_one_who_does_not_are_two() -> None:
    known = Known()
    assert meet(known, ["운전", "운전", "운전", "용접"], [False, True, False, True]) == ([0, 1, 0, 2], [0, 1, 3])
    assert meet(known, ["용접", "운전"], [False, True]) == ([3, 1], [0])
    with pytest.raises(ValueError, match="zip"):
        known.meet(["운전"], np.array([True, False]))
