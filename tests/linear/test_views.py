"""Views: n-grams of a field, the same after a model is written and read."""

import importlib.util
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.models import ViewConfig
from kjcm.linear import views
from kjcm.linear.views import View, installed, morphemes, of_field

TEXTS = ["은행(에서) 직원(으로) 창구에서 입출금 업무를 함", "병원(에서) 간호사(로) 환자를 돌봄", "청소"]
needs_kiwi = pytest.mark.skipif(importlib.util.find_spec("kiwipiepy") is None, reason="kiwipiepy is not installed")


@pytest.mark.parametrize("of", ["char", "word", pytest.param("morpheme", marks=needs_kiwi)])
def test_terms_and_idf_make_the_same_rows_again(of: str) -> None:
    config = ViewConfig(of, "text", [1, 2], 1.0)
    view = View(config)
    rows = view.fit(TEXTS)
    assert np.allclose(rows.multiply(rows).sum(axis=1), 1.0)
    again = View(config, view.terms, view.idf)
    other = ["환자 업무", "은행", "xyz"]
    for texts, expected in ((TEXTS, rows), (other, view.rows(other))):
        assert np.abs((again.rows(texts) - expected).toarray()).max() < 1e-12
    assert again.rows(other)[2].nnz == (of == "char")  # the blank around the word is a character


def test_words_of_one_character_are_terms() -> None:
    view = View(ViewConfig("word", "text", [1, 1], 1.0))
    assert view.fit(["빵 굽기", "배(에서)"]).getnnz(axis=1).tolist() == [2, 2]
    assert view.terms == ["굽기", "배", "빵", "에서"]


def test_a_row_without_fields_is_its_text_in_every_field() -> None:
    frame = pd.DataFrame({"text": ["가(에서) 나", "제목"], "position": ["나", None]}, dtype=object)
    assert of_field(frame, "position") == ["나", "제목"]
    assert of_field(frame, "task") == of_field(frame, "text") == ["가(에서) 나", "제목"]


@needs_kiwi
def test_morphemes_are_those_with_content() -> None:
    assert morphemes(["환자를 돌보는 일을 합니다", "", "환자를 돌보는 일을 합니다"]) == [
        "환자 돌보 일 하",
        "",
        "환자 돌보 일 하",
    ]


def test_words_of_one_character_count_but_not_in_models_of_older_versions() -> None:
    terms, idf = ["빵", "굽기", "빵 굽기"], np.ones(3)
    rows = [View(ViewConfig("word", "text", [1, 2], 1.0), terms, idf, short_words=short) for short in (True, False)]
    assert [one.rows(["빵 굽기"]).getnnz() for one in rows] == [3, 1]


def test_a_field_without_text_is_named() -> None:
    with pytest.raises(ConfigError, match="workplace"):
        View(ViewConfig("char", "workplace", [1, 4], 1.0)).fit(["", ""])


def test_without_kiwi_words_replace_morphemes_and_a_trained_model_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"a": ViewConfig("morpheme", "text", [1, 2], 2.0), "b": ViewConfig("char", "task", [1, 4], 1.0)}
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    assert installed(wanted) == {"a": ViewConfig("word", "text", [1, 2], 2.0), "b": wanted["b"]}

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "kiwipiepy":
            raise ImportError(name)
        return original(name, *rest, **more)

    original = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    monkeypatch.setattr(views, "_loaded", [])
    with pytest.raises(KjcmError, match=r"kjcm\[morphemes\]"):
        morphemes(["환자"])
