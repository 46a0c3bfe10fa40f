"""Texts to token ids, kept flat, and cached by content."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import KjcmError
from kjcm.files import atomic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AT_ONCE = 20_000  # texts tokenised in one call: bounds the memory of the Python lists in between


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts.

    Attributes:
        ids: [all tokens], special tokens included.
        starts: [texts + 1]; text i is ids[starts[i]:starts[i + 1]].
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text: [texts]."""
        return np.diff(self.starts)

    def padded(self, rows: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
        """Return the ids of some texts as one array [rows, longest], padded on the right with `pad`."""
        lengths = self.lengths[rows]
        out = np.full((len(rows), int(lengths.max(initial=1))), pad, np.int64)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            out[place, :length] = self.ids[self.starts[row] : self.starts[row] + length]
        return out


def tokenize(
    tokenizer: "PreTrainedTokenizerFast",
    texts: Sequence[str],
    *,
    prefix: str,
    max_length: int,
    cache: Path | None = None,
) -> Tokens:
    """Return the tokens of `prefix` + text, cut to `max_length`; from `cache` where the same were made before."""
    pipeline = {**json.loads(tokenizer.backend_tokenizer.to_str()), "truncation": None, "padding": None}
    key = hashlib.sha256(json.dumps([pipeline, prefix, max_length]).encode())
    for text in texts:
        key.update(f"{len(text)}\0{text}".encode())
    file = cache / f"{key.hexdigest()[:32]}.npz" if cache else None
    if file and file.is_file():
        try:
            with np.load(file, allow_pickle=False) as stored:
                return Tokens(stored["ids"], stored["starts"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            file.unlink(missing_ok=True)  # a broken cache entry is made again
    parts: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for begin in range(0, len(texts), AT_ONCE):
        some = [prefix + text for text in texts[begin : begin + AT_ONCE]]
        found = tokenizer(some, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
        parts.extend(np.asarray(ids, np.int32) for ids in found)
        lengths.extend(map(len, found))
    ids = np.concatenate(parts) if parts else np.empty(0, np.int32)
    tokens = Tokens(ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))
    if file:
        with atomic(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, ids=tokens.ids, starts=tokens.starts)
    return tokens


def require_known(tokens: Tokens, unknown: int | None, most: float, tokenizer: str) -> float:
    """Return the share of [UNK] among the pieces between the special tokens.

    Raises:
        KjcmError: it is above `most`: the tokenizer does not fit the texts.
    """
    pieces = max(1, len(tokens.ids) - 2 * len(tokens))
    share = float(np.count_nonzero(tokens.ids == unknown)) / pieces if unknown is not None else 0.0
    if share > most:
        raise KjcmError(
            f"The tokenizer ({tokenizer}) turns {share:.1%} of the pieces of the training texts into [UNK], more than "
            f"tokenizer.max_unknown={most:.0%}: it was made for another language or is loaded the wrong way. Use "
            "tokenizer=kobert or tokenizer=trained, or check tokenizer.path."
        )
    return share
