"""Find texts so similar that one on each side of a split would give the test away."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CHUNK = 128  # texts compared with all others at a time, which bounds the memory


def components(texts: Sequence[str], cosine: float, others: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return each text's component number: a chain of texts, each above `cosine` with the next, is one component.

    The cosine is that of TF-IDF vectors of character n-grams within words, of lengths 1 to 4 and with a logarithmic term
    frequency.

    Args:
        texts: texts, of which each has a letter.
        cosine: bound, not included.
        others: [texts] a group of each text; the texts of a group also share a component.
    """
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import TfidfVectorizer

    which, different = pd.factorize(np.array(texts, dtype=object))
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, dtype=np.float32)
    matrix = csr_array(vectors.fit_transform(different))
    right = matrix.T.tocsr()
    first: list[NDArray[np.int64]] = []
    second: list[NDArray[np.int64]] = []
    for begin in range(0, len(different), CHUNK):
        near = (matrix[begin : begin + CHUNK] @ right).tocoo()
        above = near.data > cosine
        first.append(near.row[above].astype(np.int64) + begin)
        second.append(near.col[above].astype(np.int64))
    if others is not None:
        first.append(which)
        second.append(len(different) + others)
    ends = (np.concatenate(first), np.concatenate(second))
    size = len(different) + (0 if others is None else int(others.max()) + 1)
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(size, size))
    _, found = connected_components(graph, directed=False)
    return np.asarray(found[which], np.int64)


def similar_groups(rows: pd.DataFrame, cosine: float) -> pd.Series:
    """Return the component of each row, named by its first id; the rows of a cluster share a component.

    Args:
        rows: id, text and perhaps cluster.
        cosine: bound of `components`.
    """
    clusters = pd.factorize(rows["cluster"])[0].astype(np.int64) if "cluster" in rows else None
    found = pd.Series(components(rows["text"].tolist(), cosine, clusters), index=rows.index)
    return rows["id"].groupby(found).transform("min")
