"""Triage of a small linear model of the dictionary's texts over random splits: the table of docs/results.md.

python -m tests.triage.dictionary kdo.tsv
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kjcm.reporting.probabilities import plain_top_n
from kjcm.triage.calibration import fit_temperature
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import expected
from kjcm.triage.pick_lists import on_list, sizes
from kjcm.triage.rules import CHOOSE, SEARCH, Options, Tree, Triage

DEFAULT = Options(None, 0.8, 0.95, 0.3, 5, (), "none", True)


@dataclass(frozen=True)
class Split:
    """A model's held-out and test rows."""

    tree: Tree
    temperature: float
    held: Scored
    test: Scored


def compared(split: Split, options: Options) -> tuple[float, float, float, float] | None:
    """Return the share of undecided test rows with a list, mean length, coverage, and that of a top-n of equal length."""
    triage = Triage(options, split.tree, split.held, split.temperature)
    probability = triage.probability(split.test)
    found = triage.decide(probability)
    listed, open_ = found.decision == CHOOSE, np.isin(found.decision, (CHOOSE, SEARCH))
    if not listed.any():
        return None
    picks, labels = found.picks[listed], split.test.labels[listed]
    length = float(sizes(picks).mean())
    top = plain_top_n(probability[listed], labels, length)
    return float(listed.sum() / open_.sum()), length, float(on_list(picks, labels).mean()), top


def dictionary(path: Path, splits: int) -> Iterator[Split]:
    """Train a small linear model of the dictionary's texts for each split, its scores calibrated as a run's are."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    codes = rows["ksco7"].str[:3].to_numpy(str)
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True, min_df=3, max_features=20_000)
    texts = words.fit_transform(rows["workplace"] + " " + rows["position"] + " " + rows["task"])
    dense = TruncatedSVD(60, random_state=0).fit_transform(texts)  # of texts alone
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(rows))
        test, first, held, train = np.split(order, (np.array([0.3, 0.4, 0.5]) * len(rows)).astype(int))
        model = LogisticRegression(C=100, max_iter=30).fit(dense[train], codes[train])
        place = {code: number for number, code in enumerate(model.classes_)}
        labels = np.array([place.get(code, len(place)) for code in codes])

        def scored(own: np.ndarray, model=model, labels=labels) -> Scored:  # type: ignore[no-untyped-def]
            none = np.zeros(len(own), bool)
            return Scored(model.decision_function(dense[own]).astype(np.float32), labels[own], none, none)

        fitted = scored(first)
        tree = Tree(list(model.classes_), [(code[:1], code[:2]) for code in model.classes_], [1] * len(place))
        yield Split(tree, fit_temperature(fitted.logits, fitted.labels), scored(held), scored(test))


def main(path: Path, splits: int) -> None:
    """Print means over splits, all of test rows."""
    found = list(dictionary(path, splits))
    for target in (None, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        options = replace(DEFAULT, target_error=target, back_off=(2, 1))
        table = pd.DataFrame(
            [expected(Triage(options, one.tree, one.held, one.temperature), one.test) for one in found]
        )
        above = {
            name: int((table[f"{name}_error"].astype(float) > (target or 1)).sum())
            for name in ("accepted", "backed_off")
        }
        names = ["accept", "accepted_error", "back off", "backed_off_error"]
        print(target, table[names].astype(float).mean().round(3).to_dict(), "above the target:", above)
    for alpha, k in ((0.3, 5), (0.2, 5), (0.25, 7), (0.2, 10)):
        lists = [compared(one, replace(DEFAULT, alpha=alpha, k=k)) for one in found]
        there = np.array([one for one in lists if one])
        print(
            f"alpha {alpha}, k {k}: lists in {len(there)} splits; share, length, right, top-n",
            there.mean(axis=0).round(3),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), 20)
