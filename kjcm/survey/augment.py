"""The classification's own words as further training rows (Models 3 and 4 of the article)."""

from collections.abc import Sequence

import pandas as pd

from kjcm.ksco.classification import Classification
from kjcm.survey.wording import tidy


def augmentation(
    classification: Classification, classes: Sequence[str], *, titles: bool, descriptions: bool
) -> pd.DataFrame:
    """Return training rows (text, code) from the titles and descriptions of each class and all codes beneath it.

    The same text under one class is taken once. Only classes that the cohort trains on get rows, so that the class
    list does not depend on augmentation.
    """
    rows: dict[tuple[str, str], None] = {}  # a dict keeps the order and drops what is said twice
    for code in classes:
        for one in classification.below(code):
            for wanted, texts in ((titles, classification.titles), (descriptions, classification.descriptions)):
                if wanted and (text := tidy(texts.get(one, ""))):
                    rows[text, code] = None
    return pd.DataFrame(list(rows), columns=["text", "code"], dtype=str)
