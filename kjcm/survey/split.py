"""Draw the split by a seed, independently of the files' row order and of the cutoff."""

import hashlib
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SPLIT_OVER = 10  # the split is drawn over groups of more rows (the paper's cutoff)


def round_half_up(value: float) -> int:
    """Return the nearest integer, halves upwards (69,765.5 -> 69,766)."""
    return math.floor(value + 0.5)


def ranks_of(keys: pd.Series, seed: int) -> NDArray[np.int64]:
    """Return each row's rank by its key (a row id or a cluster); equal keys share a rank.

    The order is that of SHA-256 of seed and key, so it depends on nothing else.
    """
    unique = sorted(set(keys.tolist()), key=lambda key: hashlib.sha256(f"{seed}\t{key}".encode()).digest())
    places = {key: place for place, key in enumerate(unique)}
    return keys.map(places).to_numpy(np.int64)


def boundary(ranks: NDArray[np.int64], among: NDArray[np.bool_], wanted: int) -> int:
    """Return the rank below which `wanted` of the rows `among` are, or as nearly as equal ranks allow."""
    inside = np.sort(ranks[among])
    if wanted <= 0 or not len(inside):
        return 0
    if wanted >= len(inside):
        return int(inside[-1]) + 1
    before, after = (int(np.searchsorted(inside, inside[wanted], side)) for side in ("left", "right"))
    nearer = before if wanted - before <= after - wanted else after
    return int(inside[nearer]) if nearer < len(inside) else int(inside[-1]) + 1


def first_half(rows: pd.DataFrame, seed: int) -> NDArray[np.bool_]:
    """Return which rows are in the first half of the seed's order, with clusters kept together: [rows]."""
    ranks = ranks_of(rows["cluster"] if "cluster" in rows else rows["id"], seed)
    return ranks < boundary(ranks, np.ones(len(rows), bool), round_half_up(len(rows) / 2))


def draw_split(
    rows: pd.DataFrame, seed: int, train_share: float, train_fraction: float, validation: float
) -> tuple[pd.Series, pd.Series]:
    """Return each row's drawn side (train, test) and its use (train, validation, unused, test).

    The rows of groups over `SPLIT_OVER` rows set the boundaries, so that no cutoff moves a row. All boundaries use one
    order, so that K-JCM-half's rows are among K-JCM's.

    Args:
        rows: id, code, given (the row is from a test file or the other wave) and perhaps cluster.
        seed: data.split_seed.
        train_share: share of rows for training (the paper: 0.7); 1 where test rows are given.
        train_fraction: share of the training rows to use (K-JCM-half: 0.5).
        validation: share of the used training rows to hold out.
    """
    clustered = "cluster" in rows
    ranks = ranks_of(rows["cluster"] if clustered else rows["id"], seed)
    drawn = ~rows["given"].to_numpy(bool)
    sizes = rows["code"].map(rows["code"][drawn].value_counts()).fillna(0).to_numpy()
    large = drawn & (sizes > SPLIT_OVER)
    if not large.any():
        large = drawn
    in_large = round_half_up(train_share * int(large.sum()))
    train = drawn & (ranks < boundary(ranks, large, in_large))
    if not clustered:  # small groups, which only a cutoff below 10 keeps, fill up the share of all rows
        small = drawn & ~large
        in_small = round_half_up(train_share * int(drawn.sum())) - in_large
        train = (train & large) | (small & (ranks < boundary(ranks, small, in_small)))
    used = train
    if train_fraction < 1:
        used = train & (
            ranks < boundary(ranks, large & train, round_half_up(train_fraction * int((large & train).sum())))
        )
    keep = round_half_up((1 - validation) * int((large & used).sum()))
    held = used & (ranks >= boundary(ranks, large & used, keep)) if validation else np.zeros_like(used)
    side = pd.Series(np.where(train, "train", "test"), index=rows.index)
    use = side.mask(pd.Series(train & ~used, index=rows.index), "unused")
    return side, use.mask(pd.Series(held, index=rows.index), "validation")
