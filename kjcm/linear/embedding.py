"""Embeddings of texts by a frozen encoder: each text is embedded once."""

import copy
import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from kjcm.engine.device import has_bf16, quiet
from kjcm.errors import KjcmError
from kjcm.files import atomic, key_of
from kjcm.keys.models import ViewsConfig
from kjcm.text.tokens import Tokens, pipeline_of, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.model.encoder import MeanPooled

Embeddings = NDArray[np.float16]  # [texts, width]; rounded, so that a cached embedding equals a computed one

BATCH = 512  # tokens of a batch, with padding
STEP = 8  # widths of batches are multiples of it
PART = 1024  # texts embedded between two writes to the cache
MOST_KNOWN = 200_000  # texts whose embeddings stay in memory without a cache

log = logging.getLogger("kjcm")


class Embedder:
    """The mean of a frozen encoder's last hidden states over the tokens of a text.

    Args:
        encoder: the encoder, in float32; its head is not used.
        tokenizer: of the encoder.
        prefix: text before every input.
        max_length: most tokens of an input.
        cache: folder of embeddings, which processes may share; None: no cache.
    """

    def __init__(
        self,
        encoder: "MeanPooled",
        tokenizer: "PreTrainedTokenizerFast",
        prefix: str,
        max_length: int,
        cache: Path | None = None,
    ) -> None:
        self.encoder, self.tokenizer, self.prefix, self.max_length = encoder, tokenizer, prefix, max_length
        self.width = int(encoder.config.hidden_size)
        self._half = has_bf16(gpu=False)
        self._folder = cache / f"embeddings-{self._key()}" if cache else None
        self._known = _stored(self._folder, self.width) if self._folder else {}

    @property
    def precision(self) -> str:
        """Return the precision in which the encoder computes: 'bf16' or '32-true'."""
        return "bf16" if self._half else "32-true"

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts.

        Raises:
            KjcmError: an embedding is no finite number in half precision.
        """
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        if not self._folder and len(self._known) > MOST_KNOWN:
            self._known = {key: self._known[key] for key in keys if key in self._known}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if len(new) > PART:
            log.info("embedding %s texts", f"{len(new):,}")
        for begin in range(0, len(new), PART):
            part = [*new][begin : begin + PART]
            found = self._computed([new[key] for key in part])
            self._known |= zip(part, found, strict=True)
            if self._folder:
                _store(self._folder, part, found)
        return np.stack([self._known[key] for key in keys]) if keys else np.empty((0, self.width), np.float16)

    def save(self, folder: Path) -> None:
        """Write the files of encoder and tokenizer."""
        from kjcm.model.encoder_files import save_encoder
        from kjcm.text.tokenizer import save_tokenizer

        folder.mkdir()
        save_encoder(self.encoder, folder)
        save_tokenizer(self.tokenizer, folder, self.max_length)

    def _key(self) -> str:
        """Return a key of everything that an embedding depends on, for the name of the cache's folder."""
        import torch

        body = self.encoder.encoder
        weights = hashlib.sha256()
        for name, tensor in sorted(body.state_dict().items()):
            weights.update(f"{name} {tuple(tensor.shape)}\0".encode())
            weights.update(tensor.contiguous().numpy().data)
        config = {name: value for name, value in body.config.to_dict().items() if name != "_name_or_path"}
        inputs = pipeline_of(self.tokenizer, self.prefix, self.max_length)
        return key_of([weights.hexdigest(), config, inputs, self.precision, torch.__version__, BATCH, STEP])

    @cached_property
    def _body(self) -> Any:
        """The encoder in the precision in which it computes."""
        import torch

        body: Any = self.encoder.eval().encoder
        return copy.deepcopy(body).to(torch.bfloat16) if self._half else body

    def _computed(self, texts: Sequence[str]) -> Embeddings:
        import torch

        tokens = tokenize(self.tokenizer, texts, prefix=self.prefix, max_length=self.max_length)
        widths = np.minimum(np.maximum(-(-tokens.lengths // STEP), 1) * STEP, self.max_length)
        found, body, threads = np.empty((len(texts), self.width), np.float16), self._body, torch.get_num_threads()

        def embed(rows: NDArray[np.int64]) -> None:
            width = int(widths[rows[0]])
            # batches of one width all have the same shape, so the bits do not depend on the other texts of a batch
            found[rows] = self._means(body, tokens, np.resize(rows, _size(width)), width)[: len(rows)]

        # a thread for each batch: threads that share a batch wait for each other at every operation
        try:
            with ThreadPoolExecutor(threads, "embed", torch.set_num_threads, (1,)) as pool:
                deque(pool.map(embed, _batches(widths)), maxlen=0)
        finally:
            torch.set_num_threads(threads)
        if not np.isfinite(found).all():
            raise KjcmError("The encoder's embeddings are not finite numbers. Use another model.pretrained.")
        return found

    def _means(self, body: Any, tokens: Tokens, rows: NDArray[np.int64], width: int) -> Embeddings:
        import torch

        ids = tokens.padded(rows, int(cast(int, self.tokenizer.pad_token_id)))
        ids = np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values=self.tokenizer.pad_token_id)
        real = torch.from_numpy(np.arange(width) < tokens.lengths[rows][:, None])
        with torch.inference_mode():
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": real.long()}
            hidden: torch.Tensor = body(**given).last_hidden_state.float() * real[..., None]
            mean = hidden.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        with np.errstate(over="ignore"):  # the caller refuses what is not finite
            return mean.numpy().astype(np.float16)


def _size(width: int) -> int:
    """Return the number of texts in a batch of this width."""
    return max(1, BATCH // width)


def _batches(widths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the texts of each batch, the widest first; all are of one width."""
    for width in np.unique(widths)[::-1]:
        rows = np.flatnonzero(widths == width)
        yield from np.split(rows, range(_size(int(width)), len(rows), _size(int(width))))


def _stored(folder: Path, width: int) -> dict[bytes, Embeddings]:
    """Return the cached embeddings: SHA-256 of a text -> its embedding."""
    found: dict[bytes, Embeddings] = {}
    for file in sorted(folder.glob("*.npz")):
        with suppress(Exception), np.load(file, allow_pickle=False) as part:  # any damage: recompute these embeddings
            keys, values = part["keys"], part["values"]
            fits = keys.shape == (len(values), 32) and values.shape[1:] == (width,) and values.dtype == np.float16
            if fits and keys.dtype == np.uint8 and np.isfinite(values).all():
                found |= zip(map(bytes, keys), values, strict=True)
    return found


def _store(folder: Path, keys: Sequence[bytes], values: Embeddings) -> None:
    """Write embeddings to a file of their own, so that no process waits for another."""
    whole = b"".join(keys)
    with (
        atomic(folder / f"{hashlib.sha256(whole).hexdigest()[:32]}.npz") as temporary,
        temporary.open("wb") as stream,
    ):
        np.savez(stream, keys=np.frombuffer(whole, np.uint8).reshape(-1, 32), values=values)


def pretrained_embedder(config: ViewsConfig, cache: str | None) -> Embedder:
    """Return the embedder that a config names.

    Raises:
        KjcmError: encoder or tokenizer cannot be loaded.
        ConfigError: they do not fit, or the inputs are longer than the encoder's positions.
    """
    from kjcm.model.encoder import MeanPooled, build_encoder
    from kjcm.text.tokenizer import load_tokenizer

    quiet()
    name = str(config.pretrained)
    tokenizer = load_tokenizer(name, "Give model.pretrained=FOLDER with tokenizer.json next to the weights.")
    encoder = build_encoder(
        pretrained=name,
        shape=None,
        pooling="mean",
        classes=1,
        vocabulary=len(tokenizer),
        pad=int(cast(int, tokenizer.pad_token_id)),
        max_length=config.max_length,
        seed=0,
    )
    assert isinstance(encoder, MeanPooled)
    return Embedder(encoder, tokenizer, config.prefix, config.max_length, Path(cache) if cache else None)


_loaded: "WeakValueDictionary[object, Embedder]" = WeakValueDictionary()  # models with one encoder share its embeddings


def saved_embedder(folder: Path, digests: tuple[str, ...], prefix: str, max_length: int) -> Embedder:
    """Return the embedder whose files `Embedder.save` wrote.

    Args:
        folder: with the files.
        digests: of the files.
        prefix: text before every input.
        max_length: most tokens of an input.

    Raises:
        KjcmError: a file is damaged.
    """
    from kjcm.model.encoder import MeanPooled
    from kjcm.model.encoder_files import load_encoder
    from kjcm.text.tokenizer import load_tokenizer

    key = (digests, prefix, max_length)
    found = _loaded.get(key)
    if found is None:
        encoder = load_encoder(folder, "mean")
        assert isinstance(encoder, MeanPooled)
        found = _loaded[key] = Embedder(encoder, load_tokenizer(folder), prefix, max_length)
    return found
