"""Texts to token ids, kept flat, and cached by content."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import KjcmError
from kjcm.files import cached, key_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AT_ONCE = 20_000  # texts tokenised in one call: bounds the memory of what lies in between


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

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text: [texts]."""
        return np.diff(self.starts)

    def padded(self, rows: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
        """Return the ids of some texts as one array [rows, longest], padded on the right with `pad`."""
        lengths = self.lengths[rows]
        columns = np.arange(int(lengths.max(initial=1)))
        real = columns < lengths[:, None]
        out = np.full(real.shape, pad, np.int64)
        out[real] = self.ids[(self.starts[rows][:, None] + columns)[real]]
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
    file = cache / f"tokens-{key_of(pipeline_of(tokenizer, prefix, max_length), texts)}.npz" if cache else None
    return cached(
        file,
        lambda: _encoded(tokenizer, texts, prefix, max_length),
        lambda tokens: {"ids": tokens.ids, "starts": tokens.starts},
        lambda arrays: Tokens(arrays["ids"], arrays["starts"]),
    )


def pipeline_of(tokenizer: "PreTrainedTokenizerFast", prefix: str, max_length: int) -> list[object]:
    """Return everything that a text's tokens depend on besides the text."""
    import tokenizers

    pipeline = {**json.loads(tokenizer.backend_tokenizer.to_str()), "truncation": None, "padding": None}
    beside = [tokenizer.truncation_side, tokenizer.split_special_tokens]  # what the pipeline does not say
    return [tokenizers.__version__, pipeline, beside, prefix, max_length]


def _encoded(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], prefix: str, max_length: int) -> Tokens:
    """Return what `tokenizer(texts, truncation=True)` gives, without its lists and offsets of every text."""
    from transformers.tokenization_utils_base import TruncationStrategy
    from transformers.utils.generic import PaddingStrategy

    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = tokenizer.split_special_tokens
    tokenizer.set_truncation_and_padding(
        PaddingStrategy.DO_NOT_PAD, TruncationStrategy.LONGEST_FIRST, max_length, 0, None, None
    )
    parts, lengths = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
    for begin in range(0, len(texts), AT_ONCE):
        found = backend.encode_batch_fast([prefix + text for text in texts[begin : begin + AT_ONCE]])
        lengths.append(np.fromiter(map(len, found), np.int64, len(found)))
        parts.append(np.fromiter(chain.from_iterable(one.ids for one in found), np.int32, int(lengths[-1].sum())))
    return Tokens(np.concatenate(parts), np.cumsum(np.concatenate(lengths)))


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
