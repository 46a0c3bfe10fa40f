"""Code texts with a finished run's model, in batches of texts of similar length, several in flight."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.rows import answers_frame
from kjcm.engine.device import has_bf16, on_gpu, quiet, require_device
from kjcm.errors import ConfigError, KjcmError, first_line
from kjcm.run_folder.model_folder import load_model
from kjcm.text.tokens import Tokens, tokenize

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kjcm.model.encoder import FirstToken, MeanPooled

T = TypeVar("T")

# Full-length texts per batch: a GPU needs arithmetic that outlasts its launches; a CPU batch must fit its caches.
BATCH_ON_GPU, BATCH_ON_CPU, BATCH_INT8 = 256, 16, 4


class Forward(Protocol):
    """The interface of a model that computes logits batch by batch."""

    def batch(self, tokens: Tokens, rows: NDArray[np.int64]) -> Any:
        """Return these texts as `logits` takes them; may run in another thread."""

    def logits(self, batches: Iterable[Any]) -> "Iterator[Tensor]":
        """Yield each batch's logits [texts, classes] in order, perhaps before the device has computed them."""


@dataclass(frozen=True)
class Ready:
    """Texts ready for the device.

    Attributes:
        rows: the text numbers of each batch; each text is in one batch.
        batches: the inputs of `Forward.logits`.
        covariates: [texts, width]; None: none.
    """

    rows: list[NDArray[np.int64]]
    batches: list[Any]
    covariates: NDArray[np.float32] | None = None


class Coder:
    """An encoder with its head, ready to code texts.

    Args:
        folder: the model folder.
        batch_size: a batch has the tokens of this many texts of the model's greatest length; None: the device's default.
        accelerator: 'auto', 'cpu' or 'gpu'.
        precision: '32-true', 'bf16', 'int8' (ONNX Runtime on a CPU) or 'auto'; the attribute has the choice of 'auto'.
        temperature: divides the logits.
        compiled: use torch.compile, for batches of any size.

    Raises:
        KjcmError: the model cannot be loaded.
        ConfigError: the device is missing or lacks the precision, or the compiled model would not be PyTorch's.
    """

    def __init__(
        self,
        folder: Path,
        batch_size: int | None = None,
        accelerator: str = "auto",
        precision: str = "auto",
        temperature: float = 1.0,
        *,
        compiled: bool = False,
    ) -> None:
        import torch

        from kjcm.model.covariates import covariates_of

        quiet()
        require_device("accelerator", accelerator)
        gpu = on_gpu(accelerator)
        self.precision, self.temperature = resolve_precision(precision, gpu), temperature
        if compiled and self.precision == "int8":
            raise ConfigError("compile=true is for PyTorch, and precision=int8 runs in ONNX Runtime. Leave one out.")
        model, self.tokenizer, self.settings = load_model(folder)
        weight = covariates_of(model)
        self.covariates = None if weight is None else weight.detach().clone()  # in float32, on the CPU
        pad = int(self.tokenizer.pad_token_id)
        if self.precision == "int8":
            from kjcm.coding.onnx import Int8

            self.forward: Forward = Int8(folder, model, pad)
            fitting = BATCH_INT8
        else:
            device = torch.device("cuda" if gpu else "cpu")
            self.forward = Torch(model, pad, device, half=self.precision == "bf16", packed=gpu, compiled=compiled)
            fitting = BATCH_ON_GPU if gpu else BATCH_ON_CPU
        self.budget = (batch_size or fitting) * self.settings.max_length

    def code(self, texts: list[str]) -> NDArray[np.float64]:
        """Return each text's probabilities [texts, classes]; equal texts are coded once."""
        which, different = pd.factorize(np.array(texts, dtype=object))
        return self.probabilities(self.ready(list(different)))[which]

    def ready(self, texts: Sequence[Any]) -> Ready:
        """Tokenise texts and arrange them in batches; this needs no device.

        A model with covariates takes answers, see `answers_frame`, instead of texts.
        """
        settings, covariates = self.settings, None
        if settings.covariates:
            frame = answers_frame(texts, settings.covariates)
            texts, covariates = frame["text"].tolist(), settings.covariates.encoded(frame)
        tokens = tokenize(self.tokenizer, texts, prefix=settings.prefix, max_length=settings.max_length)
        rows = list(token_batches(tokens.lengths, self.budget))
        return Ready(rows, [self.forward.batch(tokens, batch) for batch in rows], covariates)

    def probabilities(self, ready: Ready) -> NDArray[np.float64]:
        """Return the probabilities [texts, classes] of prepared texts, in float64 like those that set the thresholds.

        Wait for the device only once, at the end; until then the results stay on the device.
        """
        import torch

        with torch.inference_mode():
            found = [
                (self._plus(logits, rows, ready).double() / self.temperature).softmax(dim=1)
                for logits, rows in zip(self.forward.logits(ready.batches), ready.rows, strict=True)
            ]
            if not found:
                return np.empty((0, len(self.settings.classes)))
            values: NDArray[np.float64] = torch.cat(found).cpu().numpy()
        return values[np.argsort(np.concatenate(ready.rows))]

    def _plus(self, logits: "Tensor", rows: NDArray[np.int64], ready: Ready) -> "Tensor":
        """Return a batch's logits plus those of its covariates."""
        import torch

        from kjcm.model.covariates import plus_covariates

        if ready.covariates is None or self.covariates is None:
            return logits
        values = torch.from_numpy(ready.covariates[rows]).to(logits.device)
        return plus_covariates(logits.float(), self.covariates.to(logits.device), values)


class Torch:
    """The model in PyTorch.

    On a CPU batches are padded: they are small, so their texts have nearly one length. oneDNN keeps kernels in memory for
    each of the few shapes. A GPU's large batches span many lengths.

    Args:
        model: the encoder with its head; it is changed.
        pad: the tokenizer's padding id.
        device: where it runs.
        half: in bfloat16.
        packed: batches without padding, if the encoder's type supports it.
        compiled: by torch.compile, at the first batch.
    """

    def __init__(
        self,
        model: "MeanPooled | FirstToken",
        pad: int,
        device: "torch.device",
        *,
        half: bool,
        packed: bool,
        compiled: bool = False,
    ) -> None:
        import torch

        from kjcm.model.encoder import can_pack, for_padded_coding

        self.packs, self.pad, self.device = packed and can_pack(model), pad, device
        if not self.packs:
            for_padded_coding(model)
        self.varlen = half and device.type == "cuda" and has_bf16(gpu=True)
        model = model.to(device, torch.bfloat16 if half else torch.float32)
        run: Any = model.packed if self.packs else model
        self.run = torch.compile(run, dynamic=True) if compiled else run

    def batch(self, tokens: Tokens, rows: NDArray[np.int64]) -> "dict[str, Tensor]":
        """Return a packed or padded batch; for a GPU in pinned memory, which it reads while it computes other batches."""
        from kjcm.model.packing import pack, padded

        made = pack(tokens, rows) if self.packs else padded(tokens, rows, self.pad)
        return {name: tensor.pin_memory() for name, tensor in made.items()} if self.device.type == "cuda" else made

    def logits(self, batches: "Iterable[dict[str, Tensor]]") -> "Iterator[Tensor]":
        """Yield each batch's logits [texts, classes]."""
        return map(self._logits, batches)

    def _logits(self, batch: "dict[str, Tensor]") -> "Tensor":
        from torch._dynamo.exc import TorchDynamoException

        from kjcm.model.attention import Layout

        there = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        try:
            if not self.packs:
                return self.run(**there)  # type: ignore[no-any-return]
            layout = Layout(there["starts"], there["places"], there["valid"], dropout=False, varlen=self.varlen)
            return self.run(there["input_ids"], there["positions"], layout)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            raise KjcmError(
                f"compile=true: torch.compile failed ({first_line(error)}). It needs a C compiler, and on a GPU Triton: "
                "install them, or leave compile out."
            ) from None


def resolve_precision(precision: str, gpu: bool) -> str:
    """Return the precision; 'auto' is bf16 if the device computes in bfloat16, else 32-true.

    Raises:
        ConfigError: int8 on a GPU.
    """
    if precision == "int8" and gpu:
        raise ConfigError("precision=int8 runs on a CPU: add accelerator=cpu, or use precision=bf16 on the GPU.")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(gpu) else "32-true"


def token_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Yield batches of texts, longest first: each of one text, or of at most `budget` tokens with padding.

    The largest batches come first: if their memory suffices, it suffices for all batches.
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    begin = 0
    while begin < len(order):
        count = max(1, budget // max(1, int(lengths[order[begin]])))
        yield order[begin : begin + count]
        begin += count


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield items while a thread prepares the next one; its errors are raised here, and closing ends both."""
    end = object()
    with closing(items), ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
