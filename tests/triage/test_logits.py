"""Scored rows come back as they were, and a file that is damaged or of another model is an error."""

from pathlib import Path

import numpy as np
import pytest

from kjcm.errors import KjcmError
from kjcm.triage.logits import Scored, load_scored, save_scored

ROWS = Scored(
    np.arange(12, dtype=np.float32).reshape(4, 3),
    np.array([0, 2, 3, 1]),
    np.array([True, False] * 2),
    np.zeros(4, bool),
)


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    save_scored(tmp_path / "rows", ROWS, "abc")
    found = load_scored(tmp_path / "rows", 3, "abc")
    for name, value in vars(ROWS).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    some = found.of(np.array([True, False, False, True]))
    assert some.labels.tolist() == [0, 1] and some.logits.tolist() == [[0, 1, 2], [9, 10, 11]]


def test_other_models_and_damage_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    save_scored(file, ROWS, "abc")
    whole = file.read_bytes()
    for classes, name in ((4, "abc"), (3, "abd")):
        with pytest.raises(KjcmError, match="other classes"):
            load_scored(file, classes, name)
    for content in (b"", whole[:20], whole[:-3], b"\xff" * 100, whole.replace(b"logits", b"xogits")):
        file.write_bytes(content)
        with pytest.raises(KjcmError, match="missing or damaged"):
            load_scored(file, 3, "abc")
