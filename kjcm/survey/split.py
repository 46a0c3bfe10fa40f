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
    """Return each row's rank by its unit (a row id, a cluster or a group of similar texts); a unit's rows share a rank.

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


def units_of(rows: pd.DataFrame) -> pd.Series:
    """Return the unit of each row, which a split never divides: its similar texts, else its cluster, else the row."""
    return rows[next(name for name in ("similar", "cluster", "id") if name in rows)]


def first_half(rows: pd.DataFrame, seed: int) -> NDArray[np.bool_]:
    """Return which rows are in the first half of the seed's order, with units kept together: [rows]."""
    ranks = ranks_of(units_of(rows), seed)
    return ranks < boundary(ranks, np.ones(len(rows), bool), round_half_up(len(rows) / 2))


def stratified_ranks(ranks: NDArray[np.int64], codes: pd.Series, seed: int) -> NDArray[np.int64]:
    """Return other ranks of the same units, such that each part of the order has nearly the same share of each group.

    The units of a group keep their order. Each stands at the share of the group's rows before it; the whole group is
    moved by a part of one unit, so that groups with few rows differ in their places.

    Args:
        ranks: [rows], see `ranks_of`.
        codes: [rows]; a unit counts in the group of most of its rows.
        seed: data.split_seed.
    """
    counts = pd.DataFrame({"rank": ranks, "code": codes.to_numpy(object)}).value_counts(sort=False).rename("rows")
    by_size = counts.reset_index().sort_values(["rows", "code"], ascending=[False, True], kind="stable")
    units = by_size.groupby("rank").agg({"code": "first", "rows": "sum"})
    moved = {code: _share_of_hash(f"{seed}\t{code}") for code in units["code"].unique()}
    rows = units.groupby("code")["rows"]
    before = rows.cumsum() - units["rows"] + units["code"].map(moved) * units["rows"]
    order = (before / rows.transform("sum")).sort_values(kind="stable").index
    return np.asarray(pd.Series(range(len(order)), index=order)[ranks], np.int64)


def _share_of_hash(text: str) -> float:
    """Return a number from 0 to below 1 that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def draw_split(
    rows: pd.DataFrame,
    seed: int,
    train_share: float,
    train_fraction: float,
    validation: float,
    folds: int | None = None,
    fold: int = 0,
    inner_folds: int | None = None,
    inner_fold: int = 0,
    *,
    stratify: bool = False,
) -> tuple[pd.Series, pd.Series]:
    """Return each row's drawn side (train, test) and its use (train, validation, unused, test).

    The rows of groups over `SPLIT_OVER` rows set the boundaries, so that no cutoff moves a row. All boundaries use one
    order, so that K-JCM-half's rows are among K-JCM's, and each row is a test row of one fold.

    Args:
        rows: id, code, given (the row is from a test file or the other wave) and perhaps cluster and similar.
        seed: data.split_seed.
        train_share: share of rows for training (the paper: 0.7); 1 where test rows are given.
        train_fraction: share of the training rows to use (K-JCM-half: 0.5).
        validation: share of the used training rows to hold out.
        folds: number of folds, instead of `train_share`.
        fold: the fold that is tested, from 0.
        inner_folds: number of folds of the used training rows that `validation` leaves. The validation rows are then those
            of one fold, and the rows that `validation` holds out are unused.
        inner_fold: the fold of the validation rows, from 0.
        stratify: whether each side and fold gets nearly the same share of each group.
    """
    units = units_of(rows)
    ranks = ranks_of(units, seed)
    drawn = ~rows["given"].to_numpy(bool)
    if stratify:
        ranks = ranks.copy()
        ranks[drawn] = stratified_ranks(ranks[drawn], rows["code"][drawn], seed)
    sizes = rows["code"].map(rows["code"][drawn].value_counts()).fillna(0).to_numpy()
    large = drawn & (sizes > SPLIT_OVER)
    if not large.any():
        large = drawn

    def first(share: float) -> NDArray[np.bool_]:
        """Return which of the drawn rows are in the first `share` of the order."""
        if share >= 1:
            return drawn
        in_large = round_half_up(share * int(large.sum()))
        found = drawn & (ranks < boundary(ranks, large, in_large))
        if units.name == "id":  # small groups, which only a cutoff below 10 keeps, fill up the share of all rows
            small = drawn & ~large
            in_small = round_half_up(share * int(drawn.sum())) - in_large
            found = (found & large) | (small & (ranks < boundary(ranks, small, in_small)))
        return found

    train = first(train_share) if folds is None else drawn & ~(first((fold + 1) / folds) & ~first(fold / folds))
    used = train
    if train_fraction < 1:
        used = train & (
            ranks < boundary(ranks, large & train, round_half_up(train_fraction * int((large & train).sum())))
        )
    keep = round_half_up((1 - validation) * int((large & used).sum()))
    held = used & (ranks >= boundary(ranks, large & used, keep)) if validation else np.zeros_like(used)
    if inner_folds is not None:
        used = used & ~held
        size = int((large & used).sum())
        ends = [boundary(ranks, large & used, round_half_up(size * n / inner_folds)) for n in range(1, inner_folds)]
        held = used & (np.searchsorted(ends, ranks, side="right") == inner_fold)
    side = pd.Series(np.where(train, "train", "test"), index=rows.index)
    use = side.mask(pd.Series(train & ~used, index=rows.index), "unused")
    return side, use.mask(pd.Series(held, index=rows.index), "validation")
