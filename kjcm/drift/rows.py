"""Measure rows: text length, empty answers, unknown parts, confidence, groups and probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.chunks import probability_chunks
from kjcm.coding.coder import Coder
from kjcm.coding.decisions import Coded, Decider
from kjcm.coding.ensemble import AnyCoder, EnsembleCoder
from kjcm.coding.rows import Reading, own_columns
from kjcm.drift.comparison import Measured
from kjcm.errors import KjcmError, counted
from kjcm.ksco.classification import load_classification
from kjcm.linear.views import View
from kjcm.run_folder.contents import recorded_data, run_cohort, run_config
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.inputs import cohort_of
from kjcm.survey.rows import indices_of
from kjcm.survey.split import first_half
from kjcm.survey.texts import TEXT_COLUMNS, texts_of
from kjcm.text.tokens import tokenize
from kjcm.triage.calibration import Probabilities
from kjcm.triage.logits import Scored

MOST = 10_000  # rows of each side that are compared
CONFIDENCE, MAJORS, CODES = "confidence", "major groups", "codes"


@dataclass(frozen=True)
class File:
    """A coded file.

    Attributes:
        measured: a random sample of at most MOST rows that can be coded.
        coded: [rows] how every row is coded.
        majors: [rows] group of the top-1 code, '' for rows that cannot be coded.
    """

    measured: Measured
    coded: Coded
    majors: NDArray[np.object_]


def text_features(rows: pd.DataFrame, roles: Sequence[str], coder: AnyCoder) -> pd.DataFrame:
    """Return characters, tokens or words, the share of unknown parts, and which answers are empty: [rows, features].

    Tokens and [UNK] are those of an encoder; a model of n-grams has words and unknown n-grams. Of an ensemble the first
    member counts.

    Args:
        rows: text, workplace, position and task.
        roles: answers that the run's data have.
        coder: the model.
    """
    texts = rows["text"].tolist()
    found: dict[str, NDArray[np.float64]] = {"characters": np.array([len(text) for text in texts], np.float64)}
    while isinstance(coder, EnsembleCoder):
        coder = coder.coders[0]
    if isinstance(coder, Coder):
        settings = coder.settings
        tokens = tokenize(coder.tokenizer, texts, prefix=settings.prefix, max_length=settings.max_length)
        unknown = np.cumsum(np.append(0, tokens.ids == coder.tokenizer.unk_token_id))[tokens.starts]
        found["tokens"] = tokens.lengths.astype(np.float64)
        found["unknown tokens"] = np.diff(unknown) / np.maximum(tokens.lengths, 1)
    else:
        found["words"] = np.array([len(text.split()) for text in texts], np.float64)
        if views := [view for view in coder.model.views.values() if isinstance(view, View)]:
            found["unknown n-grams"] = views[0].unknown(rows[views[0].config.field].tolist())
    return pd.DataFrame(found | {f"empty {role}": rows[role].eq("").to_numpy(np.float64) for role in roles})


def measured(
    probability: Probabilities, classes: Sequence[str], majors: Sequence[str], texts: pd.DataFrame | None
) -> Measured:
    """Return rows as `compare` takes them.

    Args:
        probability: [rows, classes].
        classes: ordered codes.
        majors: [classes], the group of each class.
        texts: see `text_features`; None: unknown.
    """
    features = pd.DataFrame() if texts is None else texts.reset_index(drop=True)
    features = features.assign(**{CONFIDENCE: probability.max(axis=1, initial=0.0)})
    top = probability.argmax(axis=1)
    own = {MAJORS: majors, CODES: classes} if list(majors) != list(classes) else {CODES: classes}
    return Measured(features, {name: np.array(each, object)[top] for name, each in own.items()}, probability)


def held_texts(run: Path, settings: Settings, held: Scored) -> pd.DataFrame | None:
    """Return the rows that set the run's thresholds, read again from the run's data; None if they are other rows now.

    Args:
        run: the run folder.
        settings: of the model.
        held: the same rows, scored.

    Raises:
        KjcmError: the run's data cannot be read.
    """
    data, node = recorded_data(run, run_config(run))
    cohort = cohort_of(data, load_classification(node.name, node.path))
    if run_cohort(run)["hashes"]["cohort"] != cohort.cohort_hash:
        raise KjcmError("The data files have changed since the training.")
    rows = cohort.side("validation")
    second = ~first_half(rows, data.split_seed) if len(rows) else np.zeros(0, bool)
    labels, _ = indices_of(rows["code"].tolist(), settings.classes)
    return rows[second] if np.array_equal(labels[second], held.labels) else None


def coded_file(
    frames: Iterable[pd.DataFrame],
    reading: Reading,
    coder: AnyCoder,
    decider: Decider,
    roles: Sequence[str],
    *,
    texts: bool,
    seed: int,
) -> File:
    """Code a file, and measure a random sample of its rows.

    Args:
        frames: the file in chunks.
        reading: how its rows are read.
        coder: the model.
        decider: makes decisions.
        roles: answers that the run's data have.
        texts: whether texts are measured.
        seed: of the sample.

    Raises:
        KjcmError: a column is missing, or fewer than two rows can be coded.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    majors = np.array([*decider.triage.tree.majors, ""], object)
    kept = _Kept()
    coded, groups = [], []
    for frame in frames:
        ((reasons, probability),) = probability_chunks([frame], reading, coder, lambda found, _: found)
        valid = np.array([not reason for reason in reasons], dtype=bool)
        own = decider.coded(probability, np.zeros(len(probability), bool))
        coded.append(own.with_invalid(~valid))
        place = np.full(len(frame), len(majors) - 1)
        place[valid] = own.top[:, 0]
        groups.append(majors[place])
        features = _texts(frame, reading)[valid] if texts else pd.DataFrame(index=np.arange(len(probability)))
        kept.add(random.random(len(probability)), features, probability)
    if len(kept.probability) < 2:
        raise KjcmError(
            f"{reading.source}: {counted(len(kept.probability), 'row')} with text to code; at least 2 are needed. "
            "Check columns.workplace, columns.position and columns.task."
        )
    found = text_features(kept.rows, roles, coder) if texts else None
    return File(
        measured(kept.probability, decider.triage.tree.classes, majors[:-1].tolist(), found),
        _joined(coded),
        np.concatenate(groups),
    )


class _Kept:
    """The rows with the smallest of their random numbers, MOST at most."""

    def __init__(self) -> None:
        self.numbers, self.rows = np.empty(0), pd.DataFrame()
        self.probability: Probabilities = np.empty((0, 0))

    def add(self, numbers: NDArray[np.float64], rows: pd.DataFrame, probability: Probabilities) -> None:
        """Add rows with their random numbers and probabilities."""
        whole = np.concatenate([self.numbers, numbers])
        first = np.sort(np.argsort(whole, kind="stable")[:MOST])
        self.numbers = whole[first]
        self.rows = pd.concat([self.rows, rows], ignore_index=True).iloc[first]
        self.probability = np.concatenate([self.probability.reshape(-1, probability.shape[1]), probability])[first]


def _texts(frame: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    found = texts_of(frame, own_columns(frame, reading), reading.source, reading.labels, reading.wording)
    return pd.DataFrame(found.answers, columns=["text", *TEXT_COLUMNS])


def _joined(parts: Sequence[Coded]) -> Coded:
    """Return all coded rows."""
    return Coded(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def roles_of(columns: Mapping[str, str | None]) -> list[str]:
    """Return the answers that have a column."""
    return [role for role in TEXT_COLUMNS if columns.get(role)]
