"""The nearest-neighbour model: its features, its weights and its neighbours, against hand-worked ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from kjcm.keys.models import NearestConfig, ViewConfig
from kjcm.linear.nearest import FLOOR, OF_A_VIEW, SHARPNESS, NearestModel, fit_nearest, is_sparse
from kjcm.survey.texts import TEXT_COLUMNS

VIEWS = {"text": ViewConfig("word", "text", [1, 1], 2.0), "position": ViewConfig("char", "position", [1, 3], 1.0)}
ROWS = [
    ("벼 재배", 2, "a"),
    ("쌀 재배 농사", 2, "b"),
    ("벼 재배", 2, "a"),
    ("버스 운전", 0, "c"),
    ("택시 운전 기사", 0, "d"),
]
TITLES = [
    ("버스 운전원", 0),
    ("택시 운전", 0),
    ("요리사", 1),
    ("작물 재배", 2),
    ("채소 재배", 2),
    ("과수 재배", 2),
    ("벼 재배", 2),
]


def model_of(rows: list[tuple[str, int, str]], titles: list[tuple[str, int]], neighbours: int = 2) -> NearestModel:
    frame = pd.DataFrame({"text": [row[0] for row in [*rows, *titles]]})
    for name in TEXT_COLUMNS:
        frame[name] = [*(text for text, *_ in rows), *(None for _ in titles)]
    frame["unit"] = [*(unit for *_, unit in rows), *(None for _ in titles)]
    labels = np.array([row[1] for row in [*rows, *titles]])
    config = NearestConfig("nearest", "nearest", VIEWS, 1.0, None, "", 128, neighbours, 0.2, True)
    return fit_nearest(config, VIEWS, frame, labels, 3, np.arange(len(frame)) >= len(rows), 0)


def test_features_are_those_of_a_plain_loop() -> None:
    model = model_of(ROWS, TITLES)
    frame = pd.DataFrame({"text": ["쌀 재배", "택시 기사"], "position": ["농사", None]}, dtype=object)
    vectors = {
        "text": model.views["text"].rows(["쌀 재배", "택시 기사"]),
        "position": model.views["position"].rows(["농사", "택시 기사"]),
    }
    found = model.features({name: one.astype(np.float32) for name, one in vectors.items()})
    assert found.shape == (2, 3, 10)
    for row in range(2):
        for number, (name, own) in enumerate(vectors.items()):
            cosines = {
                "titles": (own[row] @ model.titles.vectors[name].T).toarray()[0],
                "rows": (own[row] @ model.rows.vectors[name].T).toarray()[0],
            }
            voters = cosines["rows"] >= np.sort(cosines["rows"])[-2]
            for label in range(3):
                titles = np.unique(cosines["titles"][model.titles.labels == label])[::-1][:3]
                rows = cosines["rows"][model.rows.labels == label]
                of_voters = np.exp(SHARPNESS * cosines["rows"][voters & (model.rows.labels == label)])
                votes = np.log(of_voters.sum() + np.exp(SHARPNESS * cosines["rows"].max() - FLOOR)) / SHARPNESS
                expected = [titles[0], titles.mean(), *([rows.max(), votes] if len(rows) else [0, 0])]
                assert found[row, label, 4 * number : 4 * number + 4] == pytest.approx(expected, abs=1e-5)
    assert found[0, :, -2:].tolist() == [[1, 1], [1, 0], [1, 1]]
    assert model.logits(frame) == pytest.approx(found @ model.weights, abs=1e-5)


def test_nearest_examples_are_the_best_by_the_weighted_cosine() -> None:
    model = model_of(ROWS, TITLES)
    places, similar = model.nearest(pd.DataFrame({"text": ["벼 재배"]}), model.rows, 3)
    assert model.rows.texts is not None and [model.rows.texts[place] for place in places[0, :2]] == ["벼 재배"] * 2
    assert similar[0, :2] == pytest.approx([1, 1], abs=1e-6) and 0 < similar[0, 2] < 1
    places, similar = model.nearest(pd.DataFrame({"text": ["벼 재배"]}), model.titles, 9)
    assert places[0, 0] == 6 and places[0, 7:].tolist() == [-1, -1] and np.isnan(similar[0, 7:]).all()


def test_without_training_rows_the_weights_are_the_prior() -> None:
    model = model_of([], TITLES)
    assert model.weights[:4] == pytest.approx(np.array(OF_A_VIEW) * 2 / 3)
    assert model.logits(pd.DataFrame({"text": ["택시 운전", "벼 재배", "요리사"]})).argmax(axis=1).tolist() == [0, 2, 1]


def test_without_titles_the_training_rows_decide() -> None:
    model = model_of(ROWS, [])
    assert model.logits(pd.DataFrame({"text": ["택시 운전", "쌀 재배"]})).argmax(axis=1).tolist() == [0, 2]


def test_vectors_without_rows_are_sparse() -> None:
    found = [is_sparse(csr_matrix(one)) for one in (np.zeros((0, 4)), np.eye(2), np.ones((2, 2)))]
    assert found == [True, True, False]
