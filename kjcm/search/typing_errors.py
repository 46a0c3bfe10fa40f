"""Find texts with one typing error, by the keys of a Korean keyboard."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kjcm.search.letters import keystrokes

LEAST_KEYS = 5  # a shorter query with one wrong key resembles too many titles
MOST_KEYS = 31  # bits of a number; further keys of a query are not compared
BEGIN, END = 1, 2  # of a letter's keys


def within_one_error(query: str, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which texts contain a query, as whole letters, with at most one wrong, missing, further or swapped key.

    Wu and Manber's bit-parallel search (1992), over all texts at once: bit i of a state says that a text's keys so far end
    with keys 0 to i of the query.
    """
    typed = "".join(map(keystrokes, query))[:MOST_KEYS]
    if len(typed) < LEAST_KEYS or not texts:
        return np.zeros(len(texts), bool)
    keys, edges = _keys(texts)
    alphabet, codes = np.unique(keys, return_inverse=True)
    masks = np.zeros(len(alphabet), np.uint32)  # bit i: key i of the query is this key
    for place, key in enumerate(typed):
        masks[alphabet == ord(key)] |= np.uint32(1 << place)
    one, last = np.uint32(1), np.uint32(len(typed) - 1)
    exact, wrong, exact_before, mask_before, begin_before, found = np.zeros((6, len(texts)), np.uint32)
    for mask, edge in zip(masks[codes.reshape(keys.shape)], edges, strict=True):
        begin, end = edge & np.uint32(BEGIN), edge >> one
        exact_now = ((exact << one) | begin) & mask
        swapped = ((exact_before << one | begin_before) << one) & (mask << one) & mask_before
        without_error = (((wrong | begin) << one) | begin) & mask
        wrong = without_error | (exact << one) | begin | (exact_now << one) | exact | swapped
        found |= ((exact_now | wrong) >> last) & end
        exact_before, exact, mask_before, begin_before = exact, exact_now, mask, begin
    return np.not_equal(found, 0)


def _keys(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the keys of texts, and which of them begin or end a letter: [most keys of a text, texts]."""
    keys = ["".join(map(keystrokes, text)) for text in texts]
    edges = ["".join(map(_edges, text)) for text in texts]
    width = max(map(len, keys))
    both = ("".join(one.ljust(width, "\0") for one in each) for each in (keys, edges))
    first, second = (np.frombuffer(one.encode("utf-32-le"), np.uint32).reshape(-1, width).T for one in both)
    return first, second


@lru_cache(maxsize=1 << 15)
def _edges(letter: str) -> str:
    """Return for each key of a letter whether it begins or ends the letter."""
    number = len(keystrokes(letter))
    return "".join(chr(BEGIN * (place == 0) + END * (place == number - 1)) for place in range(number))
