"""Code a table chunk by chunk: find the rows that can be coded, code each different text once, and add the columns."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.coder import ahead
from kjcm.coding.decisions import MOST_KNOWN, Coded, Decider, Known
from kjcm.coding.ensemble import AnyCoder
from kjcm.coding.linear import Explainer, Near
from kjcm.coding.parts import Shard
from kjcm.coding.rows import Reading, covariates_in, manages_of, matches_of, own_columns
from kjcm.survey.texts import texts_of
from kjcm.triage.calibration import Probabilities
from kjcm.triage.titles import Match

Gate = Callable[[Probabilities, NDArray[np.bool_]], Probabilities]  # probabilities [rows, classes], managers [rows]


class Store(Protocol):
    """Coded chunks that outlive their process: of each chunk the texts that no chunk before it has."""

    def read(self, number: int, texts: int) -> Coded | None:
        """Return how a chunk's new texts were coded, None if this is missing or damaged."""

    def write(self, number: int, coded: Coded) -> None:
        """Store how a chunk's new texts were coded."""


@dataclass(frozen=True)
class CodedChunk:
    """Coded rows of a table.

    Attributes:
        frame: the rows as read, with the added columns.
        decision: [rows], places in DECISIONS.
        stored: the rows were coded by an earlier process.
    """

    frame: pd.DataFrame
    decision: NDArray[np.int8]
    stored: bool


def coded_chunks(
    frames: Iterable[pd.DataFrame], reading: Reading, coder: AnyCoder, decider: Decider, store: Store | None = None
) -> Generator[CodedChunk, None, None]:
    """Yield a table's rows with their codes.

    Args:
        frames: the table in chunks.
        reading: how its rows are read.
        coder: the model.
        decider: makes the columns.
        store: has the chunks that are coded already, and gets the others; None: no chunk is stored.

    Raises:
        KjcmError: a column is missing, or the store is another process's.
    """
    # one thread reads and another tokenises (mostly outside Python) while this thread codes
    chunks = ahead(_with_batches(ahead(_chunks(reading, frames, store)), coder, decider.explainer))
    with closing(chunks):
        for chunk, ready, near in chunks:
            chunk.known.add(_new(chunk, ready, near, coder, decider, store))
            invalid = np.array([bool(reason) for reason in chunk.reasons], dtype=bool)
            coded = chunk.known.take(chunk.numbers).with_invalid(invalid)
            coded = decider.with_index(coded, chunk.matches)
            added = decider.frame(coded, chunk.reasons, chunk.matches)
            frame = pd.concat([chunk.frame.reset_index(drop=True), added], axis=1)
            yield CodedChunk(frame, coded.decision, chunk.stored is not None)


def code_shard(
    frames: Iterable[pd.DataFrame], reading: Reading, coder: AnyCoder, decider: Decider, store: Store, shard: Shard
) -> Generator[tuple[int, bool], None, None]:
    """Code the new texts of a shard's chunks; yield each of these chunks' rows, and whether an earlier process coded them.

    The other chunks are read, because they tell which texts of the shard's chunks are new.
    """
    found = ahead(_chunks(reading, frames, store, shard.has))
    with closing(ahead(_with_batches(found, coder, decider.explainer))) as chunks:
        for chunk, ready, near in chunks:
            _new(chunk, ready, near, coder, decider, store)
            yield len(chunk.frame), chunk.stored is not None


def new_texts(
    frames: Iterable[pd.DataFrame], reading: Reading
) -> Generator[tuple[int, list[Any], NDArray[np.bool_]], None, None]:
    """Yield each chunk's number of rows, its texts that no chunk before has, and whether their authors say that they manage."""
    with closing(_chunks(reading, frames, None)) as chunks:
        for chunk in chunks:
            yield len(chunk.frame), chunk.texts, chunk.manages


def coded_texts(texts: list[Any], manages: NDArray[np.bool_], coder: AnyCoder, decider: Decider) -> Coded:
    """Return how a chunk's new texts are coded; arguments as `new_texts` yields them."""
    ready, near = _ready(texts, coder, decider.explainer)
    return decider.coded(coder.probabilities(ready), manages, near)


def probability_chunks(
    frames: Iterable[pd.DataFrame], reading: Reading, coder: AnyCoder, gate: Gate
) -> Generator[tuple[list[str], Probabilities], None, None]:
    """Yield why each row of a chunk cannot be coded, '' if it can [rows], and the probabilities [valid rows, classes].

    Args:
        frames: as in `coded_chunks`, whose batches are the same.
        reading: likewise.
        coder: likewise.
        gate: see `kjcm.triage.rules.Triage.gated`.
    """
    known: Known | None = None
    parts: list[Probabilities] = []
    with closing(ahead(_with_batches(ahead(_chunks(reading, frames, None)), coder, None))) as chunks:
        for chunk, ready, _ in chunks:
            if chunk.known is not known:
                known, parts = chunk.known, []
            parts = [np.concatenate([*parts, gate(coder.probabilities(ready), chunk.manages)])]
            yield chunk.reasons, parts[0][chunk.numbers]


@dataclass(frozen=True)
class _Chunk:
    """Rows of the input.

    Attributes:
        frame: the rows as read.
        reasons: [rows], why a row is invalid, else ''.
        manages: [new texts], whether their authors say that they manage.
        known: the texts met so far.
        numbers: [valid rows], their numbers in `known`.
        new: [new texts], places among the valid rows.
        texts: [new texts] as the coder takes them; empty if an earlier process coded the chunk.
        stored: how an earlier process coded the new texts.
        number: of the chunk.
        matches: [rows], what the index has for each row's job title; None without an index.
    """

    frame: pd.DataFrame
    reasons: list[str]
    manages: NDArray[np.bool_]
    known: Known
    numbers: NDArray[np.int64]
    new: NDArray[np.int64]
    texts: list[Any]
    stored: Coded | None
    number: int
    matches: list[Match] | None


def _chunks(
    reading: Reading,
    frames: Iterable[pd.DataFrame],
    store: Store | None,
    wanted: Callable[[int], bool] = lambda _: True,
) -> Generator[_Chunk, None, None]:
    """Yield the wanted chunks of the input.

    Raises:
        KjcmError: a column is missing.
    """
    known = Known()
    for number, frame in enumerate(frames):
        columns = own_columns(frame, reading)
        texts = texts_of(frame, columns, reading.source, reading.labels, reading.wording)
        manages, unclear = manages_of(frame, texts, columns, reading)
        covariates, wrong = covariates_in(frame, columns, reading)
        reasons = [next(filter(None, found), "") for found in zip(texts.reasons, unclear, wrong, strict=True)]
        valid = np.array([not reason for reason in reasons], dtype=bool)
        if len(known) > MOST_KNOWN:
            known = Known()
        inputs: Sequence[Any] = texts.sentences
        if reading.by_field:
            inputs = [(*answer, *more) for answer, more in zip(texts.answers, covariates, strict=True)]
        those = [inputs[row] for row in np.flatnonzero(valid).tolist()]
        numbers, new = known.meet(those, manages[valid])
        if not wanted(number):
            continue
        stored = store.read(number, len(new)) if store else None
        to_code = [] if stored else [those[row] for row in new]
        matches = matches_of(texts, manages, reasons, reading)
        yield _Chunk(frame, reasons, manages[valid][new], known, numbers, new, to_code, stored, number, matches)


def _with_batches(
    chunks: Generator[_Chunk, None, None], coder: AnyCoder, explainer: Explainer | None
) -> Generator[tuple[_Chunk, Any, Near | None], None, None]:
    """Yield each chunk with the batches of its new texts and their explanation."""
    with closing(chunks):
        for chunk in chunks:
            yield chunk, *_ready(chunk.texts, coder, explainer)


def _ready(texts: list[Any], coder: AnyCoder, explainer: Explainer | None) -> tuple[Any, Near | None]:
    """Return the batches of texts, and their explanation."""
    return coder.ready(texts), explainer.near(texts) if explainer else None


def _new(chunk: _Chunk, ready: Any, near: Near | None, coder: AnyCoder, decider: Decider, store: Store | None) -> Coded:
    """Return how a chunk's new texts are coded; store it unless it is stored."""
    if chunk.stored:
        return chunk.stored
    coded = decider.coded(coder.probabilities(ready), chunk.manages, near)
    if store:
        store.write(chunk.number, coded)
    return coded
