"""A finished run's model coding texts: each different text once, batches of texts of like length, several in flight."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.study.lightning import has_bf16, on_gpu, quiet
from kjcm.study.model_folder import load_model
from kjcm.text.tokens import Tokens, tokenize

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kjcm.model.encoder import FirstToken, MeanPooled

Rows = NDArray[np.int64]
T = TypeVar("T")

# Texts of full length a batch: a GPU wants arithmetic that outlasts its launches, a CPU no more than its caches hold.
BATCH_ON_GPU, BATCH_ON_CPU, BATCH_INT8 = 256, 16, 4


class Forward(Protocol):
    """How a batch goes through the model."""

    def batch(self, tokens: Tokens, rows: Rows) -> Any:
        """Return what `logits` takes for these texts; may run in another thread."""

    def logits(self, batches: Iterable[Any]) -> "Iterator[Tensor]":
        """Give the logits [texts, classes] of each batch, in order; perhaps before the device has computed them."""


@dataclass(frozen=True)
class Ready:
    """Texts made ready for the device.

    Attributes:
        which: [texts], the different text that each is.
        rows: the different texts of each batch; every one is in one batch.
        batches: what `Forward.logits` takes each.
    """

    which: Rows
    rows: list[Rows]
    batches: list[Any]


class Coder:
    """A finished run's model, ready to code texts.

    Args:
        run: the run folder.
        batch_size: a batch holds the tokens of this many texts of the run's greatest length; None: what suits the device.
        top_k: codes a text.
        accelerator: 'auto', 'cpu' or 'gpu'.
        precision: '32-true', 'bf16', 'int8' (ONNX Runtime on a CPU) or 'auto'; the attribute says what 'auto' means.

    Raises:
        KjcmError: the run's model cannot be loaded.
        ConfigError: there is no such device, or it has no such precision.
    """

    def __init__(
        self, run: Path, batch_size: int | None, top_k: int, accelerator: str = "auto", precision: str = "auto"
    ) -> None:
        import torch

        quiet()
        if accelerator not in ("auto", "cpu", "gpu") or (accelerator == "gpu" and not torch.cuda.is_available()):
            raise ConfigError(f"accelerator={accelerator}: use auto, cpu, or gpu where there is one (`kjcm doctor`).")
        gpu = on_gpu(accelerator)
        self.precision, self.top_k = resolve_precision(precision, gpu), top_k
        model, self.tokenizer, self.settings = load_model(run / "model")
        pad = int(self.tokenizer.pad_token_id)
        if self.precision == "int8":
            from kjcm.coding.onnx import Int8

            self.forward: Forward = Int8(run, model, pad)
            fitting = BATCH_INT8
        else:
            device = torch.device("cuda" if gpu else "cpu")
            self.forward = Torch(model, pad, device, half=self.precision == "bf16", packed=gpu)
            fitting = BATCH_ON_GPU if gpu else BATCH_ON_CPU
        self.budget = (batch_size or fitting) * self.settings.max_length

    @property
    def columns(self) -> list[str]:
        """The columns of a coded frame."""
        return [f"{name}_{k + 1}" for name in ("code", "title", "prob") for k in range(self.top_k)]

    def code(self, texts: list[str]) -> pd.DataFrame:
        """Return code_1..k, title_1..k, prob_1..k for each text; probabilities are over all classes (sum 1)."""
        return self.frame(self.ready(texts))

    def ready(self, texts: list[str]) -> Ready:
        """Tokenise texts and lay them out in batches: the work that needs no device."""
        which, different = pd.factorize(np.array(texts, dtype=object))
        settings = self.settings
        tokens = tokenize(self.tokenizer, list(different), prefix=settings.prefix, max_length=settings.max_length)
        rows = list(token_batches(tokens.lengths, self.budget))
        return Ready(which, rows, [self.forward.batch(tokens, batch) for batch in rows])

    def frame(self, ready: Ready) -> pd.DataFrame:
        """Return what `code` does, of texts made ready."""
        top, prob = self._first(ready)
        codes = np.array(self.settings.classes, dtype=object)[top]
        titles = np.array([self.settings.titles.get(code, "") for code in self.settings.classes], dtype=object)[top]
        return pd.DataFrame(dict(zip(self.columns, [*codes.T, *titles.T, *prob.T], strict=True)))

    def _first(self, ready: Ready) -> tuple[Rows, NDArray[np.float32]]:
        """Return class indices and probabilities [texts, top_k], likeliest first.

        The device is waited for once, at the end: until then the results stay on it and batches follow one another.
        """
        import torch

        found = []
        with torch.inference_mode():
            for logits in self.forward.logits(ready.batches):
                found.append(logits.float().softmax(dim=1).topk(self.top_k, dim=1))
            if not found:
                return np.empty((0, self.top_k), np.int64), np.empty((0, self.top_k), np.float32)
            values, indices = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        place = np.argsort(np.concatenate(ready.rows))[ready.which]  # text -> where its result lies
        return indices[place], values[place]


class Torch:
    """The model in PyTorch.

    On a CPU batches are padded: its small batches hold texts of nearly one length, and there are few different shapes,
    for each of which oneDNN keeps kernels in memory. A GPU's large batches span many lengths.

    Args:
        model: the encoder with its head; it is changed.
        pad: the tokenizer's padding id.
        device: where it runs.
        half: in bfloat16.
        packed: batches without padding, where the encoder's kind can.
    """

    def __init__(
        self, model: "MeanPooled | FirstToken", pad: int, device: "torch.device", *, half: bool, packed: bool
    ) -> None:
        import torch

        from kjcm.model.encoder import can_pack, for_padded_coding

        self.packs, self.pad, self.device = packed and can_pack(model), pad, device
        if not self.packs:
            for_padded_coding(model)
        self.varlen = half and device.type == "cuda" and has_bf16(gpu=True)
        self.model = model.to(device, torch.bfloat16 if half else torch.float32)

    def batch(self, tokens: Tokens, rows: Rows) -> "dict[str, Tensor]":
        """Return a packed or padded batch; for a GPU in memory that it can fetch from while others are computed."""
        from kjcm.engine.packing import pack, padded

        made = pack(tokens, rows) if self.packs else padded(tokens, rows, self.pad)
        return {name: tensor.pin_memory() for name, tensor in made.items()} if self.device.type == "cuda" else made

    def logits(self, batches: "Iterable[dict[str, Tensor]]") -> "Iterator[Tensor]":
        """Give the logits [texts, classes] of each batch."""
        return map(self._logits, batches)

    def _logits(self, batch: "dict[str, Tensor]") -> "Tensor":
        from kjcm.engine.attention import Layout

        there = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        if not self.packs:
            return self.model(**there)  # type: ignore[no-any-return]
        layout = Layout(there["starts"], there["places"], there["valid"], dropout=False, varlen=self.varlen)
        return self.model.packed(there["input_ids"], there["positions"], layout)


def resolve_precision(precision: str, gpu: bool) -> str:
    """Return what 'auto' means on this device: bf16 where it computes in bfloat16 itself, else 32-true.

    Raises:
        ConfigError: int8 on a GPU.
    """
    if precision == "int8" and gpu:
        raise ConfigError("precision=int8 runs on a CPU: add accelerator=cpu, or use precision=bf16 on the GPU.")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(gpu) else "32-true"


def token_batches(lengths: Rows, budget: int) -> Iterator[Rows]:
    """Yield batches of texts, longest first: of at most `budget` tokens, were each as long as the longest, or of one text.

    The largest batches come first, so that memory that was enough for them is enough for all.
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    begin = 0
    while begin < len(order):
        count = max(1, budget // max(1, int(lengths[order[begin]])))
        yield order[begin : begin + count]
        begin += count


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items; a thread makes the next one meanwhile. What is raised in it is raised here, and closing ends it."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]
