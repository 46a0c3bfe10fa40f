"""Choose texts that are uncertain, and typical of other uncertain texts that no chosen text resembles yet."""

import heapq
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

GRAMS = (2, 3)  # characters
MOST = 5000  # different texts that are compared with each other

Floats = NDArray[np.float32]


def chosen(
    texts: Sequence[str], uncertainty: NDArray[np.float64], count: int, seed: int, known: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Return the places of at most `count` different texts, the most useful first.

    Each text is the one that most raises the sum over all rows of uncertainty times similarity to the nearest chosen text
    (facility location, weighted as by Wei, Iyer and Bilmes, 2015). The similarity is the cosine of character n-grams,
    weighted by TF-IDF.

    Args:
        texts: [rows].
        uncertainty: [rows], at least 0.
        count: most texts to choose.
        seed: of the sample that stands for more than MOST different texts.
        known: texts that reviewers have decided: they are not chosen, and count as chosen before.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = list(dict.fromkeys(known))
    numbers, different = pd.factorize(np.array(texts, object))
    weight = np.bincount(numbers, uncertainty, len(different)).astype(np.float32)
    first = np.unique(numbers, return_index=True)[1]
    own = np.flatnonzero(~np.isin(different, np.array(known, object)))
    if len(own) > MOST:  # frequent and uncertain texts are the most likely to be in the sample
        chance = weight[own].astype(float) + 1e-9
        generator = np.random.Generator(np.random.PCG64(seed))
        own = np.sort(generator.choice(own, MOST, replace=False, p=chance / chance.sum()))
    if not len(own):
        return own
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=GRAMS, sublinear_tf=True, dtype=np.float32)
    rows = grams.fit_transform(different[own])
    covered = np.zeros(len(own), np.float32)
    if known:
        covered = (rows @ grams.transform(known).T).max(axis=1).toarray().ravel()
    return first[own[_greedy((rows @ rows.T).toarray(), weight[own], covered, count)]]


def _greedy(similar: Floats, weight: Floats, covered: Floats, count: int) -> NDArray[np.int64]:
    """Return the texts with the greatest gains, one after another.

    A gain never grows while texts are chosen. So the text whose new gain is at least every other text's old gain is the best
    one (Minoux, 1978).

    Args:
        similar: [texts, texts] similarities, symmetric.
        weight: [texts].
        covered: [texts] similarity to the nearest text that was chosen before.
        count: most texts to choose.
    """

    def loss(text: int) -> float:
        return -float(weight @ np.maximum(similar[text] - covered, 0))

    found: list[int] = []
    heap = [(loss(text), text) for text in range(len(weight))]
    heapq.heapify(heap)
    while heap and len(found) < count:
        _, text = heapq.heappop(heap)
        now = (loss(text), text)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        found.append(text)
        covered = np.maximum(covered, similar[text])
    return np.array(found, np.int64)
