"""Divide rows among coders: balanced numbers, identical texts together, a random share given to two coders."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def divide(
    texts: NDArray[np.intp], coders: int, doubles: int, generator: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which coder gets which row: [rows, coders], and the number of double rows of each pair: [coders, coders].

    Each text belongs to one coder, who gets all its rows. A second coder gets those of its rows that are drawn as double.
    The double rows come first, in turn to each pair of coders. The other texts then go to the coder with the fewest rows,
    texts with many rows first.

    Args:
        texts: [rows] number of each row's text, from 0.
        coders: number of coders, at least 2.
        doubles: number of rows that two coders get.
        generator: draws the double rows and the order of the texts.
    """
    rows = np.zeros((len(texts), coders), bool)
    sizes = np.bincount(texts)
    load, pairs = np.zeros(coders, np.int64), np.zeros((coders, coders), np.int64)
    drawn = generator.choice(len(texts), doubles, replace=False)
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    twice = np.bincount(texts[drawn], minlength=len(sizes))
    owner, second = np.zeros(len(sizes), np.intp), np.zeros(len(sizes), np.intp)
    for text in order[twice[order] > 0]:
        pair = min(combinations(range(coders), 2), key=lambda two: (pairs[two], load[[*two]].sum()))
        owner[text], second[text] = sorted(pair, key=lambda coder: load[coder])
        pairs[pair] += twice[text]
        load[owner[text]] += sizes[text]
        load[second[text]] += twice[text]
    for text in order[twice[order] == 0]:
        owner[text] = load.argmin()
        load[owner[text]] += sizes[text]
    rows[np.arange(len(texts)), owner[texts]] = True
    rows[drawn, second[texts[drawn]]] = True
    return rows, pairs
