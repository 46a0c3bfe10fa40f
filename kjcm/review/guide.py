"""Describe a code for the page: its titles, parents, groups below, definition, and job titles of an index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.search.engine import Search

MOST_BELOW = 30  # groups below a code
MOST_TITLES = 12  # job titles of a code


class Guide:
    """The definitions of codes.

    Args:
        classification: the codes.
        index: job titles with codes.
        search: cuts the codes of the index to the model's level.
    """

    def __init__(self, classification: Classification, index: Sequence[IndexTitle], search: Search) -> None:
        self._classification = classification
        self._titles: dict[str, list[str]] = {}
        for one in sorted(index, key=lambda one: -one.weight):
            self._titles.setdefault(search.group(one.code), []).append(one.title)
        known = list(dict.fromkeys(one.title for one in index))
        self._grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
        self._place = {title: place for place, title in enumerate(known)}
        self._vectors = self._grams.fit_transform(known) if known else None

    def name(self, code: str) -> dict[str, str]:
        """Return a code with its titles."""
        named = self._classification
        return {"code": code, "title": named.title(code), "english": named.title(code, "en")}

    def about(self, code: str, text: str) -> dict[str, Any]:
        """Return what is known of a code; of the index's job titles those most similar to a text."""
        named = self._classification
        below = [one for one in named.below(code) if named.parent(one) == code]
        return {
            **self.name(code),
            "description": named.descriptions.get(code, ""),
            "above": [self.name(one) for one in named.ancestors(code)],
            "below": [self.name(one) for one in below[:MOST_BELOW]],
            "titles": self._nearest(self._titles.get(code, []), text),
        }

    def _nearest(self, titles: Sequence[str], text: str) -> list[str]:
        if self._vectors is None or not titles:
            return []
        of_titles = self._vectors[[self._place[title] for title in titles]]
        similarity = (of_titles @ self._grams.transform([text]).T).toarray().ravel()
        return list(dict.fromkeys(titles[place] for place in np.argsort(-similarity, kind="stable")))[:MOST_TITLES]
