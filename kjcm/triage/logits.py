"""Store rows with their logits next to a model or run; calibration and thresholds are fitted and tested on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import KjcmError
from kjcm.files import atomic
from kjcm.records import damaged, require_regular
from kjcm.triage.calibration import Labels, Logits

HASH, INDEX = "classes_hash", "index_sha256"


@dataclass(frozen=True)
class Scored:
    """Rows with a model's logits, without texts and ids.

    Attributes:
        logits: [rows, classes], float32.
        labels: [rows], class indices; codes that are not classes have numbers beyond the last class.
        words: [rows], whether the text contains a manager's key word.
        answers: [rows], whether the yes/no column says that the person manages; all False without that column.
        index: [rows], what accepting the code of the row's job title would give (`kjcm.triage.titles`); None: unknown.
        index_sha: SHA-256 of the index's titles and codes at the classes' level; '' without one.
    """

    logits: Logits
    labels: Labels
    words: NDArray[np.bool_]
    answers: NDArray[np.bool_]
    index: NDArray[np.int8] | None = None
    index_sha: str = ""

    def of(self, rows: NDArray[np.bool_]) -> "Scored":
        """Return some of the rows."""
        index = None if self.index is None else self.index[rows]
        return Scored(self.logits[rows], self.labels[rows], self.words[rows], self.answers[rows], index, self.index_sha)


def save_scored(file: Path, scored: Scored, classes_hash: str) -> None:
    """Write rows as safetensors, atomically."""
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {
        "logits": np.ascontiguousarray(scored.logits, np.float32),
        "labels": scored.labels.astype(np.int32),
        "words": scored.words.astype(np.uint8),
        "answers": scored.answers.astype(np.uint8),
    }
    if scored.index is not None:
        arrays["index"] = scored.index.astype(np.int8)
    about = {HASH: classes_hash} | ({INDEX: scored.index_sha} if scored.index is not None else {})
    with atomic(file) as temporary:
        save_file(arrays, temporary, about)


def load_scored(file: Path, classes: int, classes_hash: str) -> Scored:
    """Read rows that `save_scored` wrote.

    Raises:
        KjcmError: the file is damaged, or belongs to a model with other classes.
    """
    from safetensors import safe_open

    require_regular(file)
    try:
        with safe_open(file, "numpy") as stored:
            about = stored.metadata() or {}
            index = stored.get_tensor("index").astype(np.int8) if INDEX in about else None
            logits, labels, words, answers = (
                stored.get_tensor(name) for name in ("logits", "labels", "words", "answers")
            )
    except Exception as error:  # safetensors and NumPy raise errors of many types
        raise damaged(file, error) from None
    rows = len(labels)
    if index is not None and index.shape != (rows,):
        raise damaged(file, "the matches with the index are not those of its rows")
    if (
        about.get(HASH) != classes_hash
        or logits.shape != (rows, classes)
        or words.shape != (rows,)
        or answers.shape != (rows,)
    ):
        raise KjcmError(f"{file}: belongs to a model with other classes. Use an unchanged copy of the run.")
    return Scored(
        logits.astype(np.float32), labels.astype(np.int64), words.astype(bool), answers.astype(bool), index,
        about.get(INDEX, ""),
    )  # fmt: skip
