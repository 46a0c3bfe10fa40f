"""A linear model's temperature, where the training rows leave little to cross-validate."""

import numpy as np
import pandas as pd
import pytest

from kjcm.config.training import LinearConfig, ViewConfig
from kjcm.linear.model import fitted

CONFIG = LinearConfig("linear", "linear", {"text": ViewConfig("word", "text", [1, 1], 1.0)}, "svm", 1.0, 0.0, [], 2)


@pytest.mark.parametrize("folds", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_folds_that_leave_nothing_to_learn_from_set_no_temperature(folds: list[int]) -> None:
    frame, labels = pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 환자"]}), np.array([0, 1, 0, 1])
    one, none = (
        fitted(CONFIG, CONFIG.views, frame, labels, [np.arange(2)], np.array(parts), 0) for parts in (folds, [-1] * 4)
    )
    assert (one.logits(frame) == none.logits(frame)).all() and one.logits(frame).argmax(axis=1).tolist() == [0, 1, 0, 1]
