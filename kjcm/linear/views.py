"""Views of a row's answers: n-grams of one field, weighted by TF-IDF; `EncoderView` has the same methods."""

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.models import ViewConfig
from kjcm.survey.covariates import Covariates

COVARIATES = "data.columns.covariates"  # name of their view; no name in a config has a dot
MORPHEMES = "kiwipiepy"  # the extra's package
CONTENT = ("N", "V", "XR", "MAG", "SL", "SH", "SN")  # beginnings of the tags of content morphemes
# no copula or auxiliary verb, which are in most sentences
AUXILIARY = ("VX", "VCP", "VCN")

log = logging.getLogger("kjcm")


def lacks_kiwi() -> bool:
    """Return whether kiwipiepy is not installed."""
    return find_spec(MORPHEMES) is None


def installed(views: Mapping[str, ViewConfig]) -> dict[str, ViewConfig]:
    """Return the views with words in place of morphemes where kiwipiepy is not installed; log it once."""
    if not lacks_kiwi() or all(view.of != "morpheme" for view in views.values()):
        return dict(views)
    log.warning("kiwipiepy is not installed: views of morphemes use words. pip install 'kjcm[morphemes]' adds it.")
    return {
        name: ViewConfig("word" if view.of == "morpheme" else view.of, view.field, view.ngrams, view.weight)
        for name, view in views.items()
    }


class View:
    """The n-grams of one field as rows of unit length.

    Args:
        config: of the view.
        terms: vocabulary in the order of the columns; None: it is learnt by `fit`.
        idf: [terms] inverse document frequencies.
        short_words: whether words of one character count; in models of older versions they do not.
    """

    def __init__(
        self,
        config: ViewConfig,
        terms: Sequence[str] | None = None,
        idf: NDArray[np.float64] | None = None,
        *,
        short_words: bool = True,
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.config = config
        analyzer: Any = {"char": "char_wb", "word": "word", "morpheme": "word"}[config.of]
        # without a pattern scikit-learn drops words of one character
        more: dict[str, Any] = {
            "word": {"token_pattern": r"(?u)\b\w+\b"} if short_words else {},
            "morpheme": {"token_pattern": r"\S+", "lowercase": False},
        }
        self._vectorizer = TfidfVectorizer(
            analyzer=analyzer,
            ngram_range=tuple(config.ngrams),
            sublinear_tf=True,
            vocabulary=terms,
            **more.get(config.of, {}),
        )
        if idf is not None:
            self._vectorizer.idf_ = idf

    def fit(self, texts: Sequence[str]) -> Any:
        """Learn the vocabulary and return the rows of the training texts, [texts, terms].

        Raises:
            ConfigError: no text has a term.
        """
        try:
            return self._vectorizer.fit_transform(self._prepared(texts))
        except ValueError:  # scikit-learn's empty vocabulary
            raise ConfigError(
                f"model.views: no training row has a term in {self.config.field}. Remove the view of {self.config.field}, "
                "or map its column."
            ) from None

    def rows(self, texts: Sequence[str]) -> Any:
        """Return the rows of texts, [texts, terms]."""
        return self._vectorizer.transform(self._prepared(texts))

    def unknown(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the share of each text's different n-grams that the vocabulary lacks, 0 without n-grams: [texts]."""
        analyze, known = self._vectorizer.build_analyzer(), self._vectorizer.vocabulary_
        found = [set(analyze(text)) for text in self._prepared(texts)]
        return np.array([len(own - known.keys()) / max(1, len(own)) for own in found], np.float64)

    @property
    def terms(self) -> list[str]:
        """Return the vocabulary in the order of the columns."""
        return [str(term) for term in self._vectorizer.get_feature_names_out()]

    @property
    def idf(self) -> NDArray[np.float64]:
        """Return the inverse document frequencies, [terms]."""
        return np.asarray(self._vectorizer.idf_, np.float64)

    @property
    def size(self) -> int:
        """Return the number of columns."""
        return len(self.idf)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `fit` has learnt besides the terms."""
        return {"idf": self.idf}

    def as_read(self) -> "View":
        """Return the view as a later process reads it: scikit-learn sums in another order after `fit`."""
        return View(self.config, self.terms, self.idf)

    def _prepared(self, texts: Sequence[str]) -> Sequence[str]:
        return morphemes(texts) if self.config.of == "morpheme" else texts


class CovariatesView:
    """The covariates of a row, as `Covariates.encoded` returns them.

    Args:
        weight: of the view.
        covariates: of the training rows.
    """

    terms: tuple[str, ...] = ()

    def __init__(self, weight: float, covariates: Covariates) -> None:
        self.config, self.covariates = ViewConfig(COVARIATES, COVARIATES, [], weight), covariates

    @property
    def size(self) -> int:
        """Return the number of columns."""
        return self.covariates.width

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return nothing: the model's settings have the covariates."""
        return {}

    def as_read(self) -> "CovariatesView":
        """Return the view as a later process reads it."""
        return self

    def rows(self, frame: pd.DataFrame) -> Any:
        """Return the rows of a frame, [rows, columns]."""
        from scipy.sparse import csr_matrix

        return csr_matrix(self.covariates.encoded(frame))

    fit = rows


def input_of(frame: pd.DataFrame, view: Any) -> Any:
    """Return what a view reads of rows: the text of its field, or the rows themselves for covariates."""
    return frame if isinstance(view, CovariatesView) else of_field(frame, view.config.field)


def of_field(frame: pd.DataFrame, field: str) -> list[str]:
    """Return the text of a field for each row; a row without fields, as a title, is its text in every field."""
    if field == "text" or field not in frame:
        return list(map(str, frame["text"]))
    return list(map(str, frame[field].where(frame[field].notna(), frame["text"])))


def morphemes(texts: Sequence[str]) -> list[str]:
    """Return each text's content morphemes with blanks between them.

    Raises:
        KjcmError: kiwipiepy is not installed.
    """
    kiwi, different = _kiwi(), list(dict.fromkeys(texts))
    found = {
        text: " ".join(
            token.form for token in tokens if token.tag.startswith(CONTENT) and not token.tag.startswith(AUXILIARY)
        )
        for text, tokens in zip(different, kiwi(different), strict=True)
    }
    return [found[text] for text in texts]


_loaded: list[Any] = []  # Kiwi takes a second to load


def _kiwi() -> Callable[[Sequence[str]], Any]:
    if not _loaded:
        try:
            from kiwipiepy import Kiwi  # type: ignore[import-untyped]
        except ImportError:
            raise KjcmError(
                "This model reads morphemes, which needs an extra: pip install 'kjcm[morphemes]'."
            ) from None
        _loaded.append(Kiwi())
    tokenize: Callable[[Sequence[str]], Any] = _loaded[0].tokenize
    return tokenize
