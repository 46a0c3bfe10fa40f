"""Run a model in ONNX Runtime on a CPU, with int8 linear layers; a run folder stores the int8 file."""

import logging
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError, KjcmError, first_line
from kjcm.files import atomic, digest, write_json
from kjcm.records import read_json
from kjcm.text.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from kjcm.model.encoder import FirstToken, MeanPooled

INPUTS = ("input_ids", "attention_mask")
RECIPE = 1  # changes when the same model would give another file


class Int8:
    """The model in int8, batches padded.

    Args:
        folder: the model folder.
        model: its encoder with its head, as loaded.
        pad: the tokenizer's padding id.

    Raises:
        ConfigError: ONNX Runtime is not installed, or does not support this encoder.
        KjcmError: the file cannot be written.
    """

    def __init__(self, folder: Path, model: "MeanPooled | FirstToken", pad: int) -> None:
        import torch

        self.pad = pad
        with int8_file(folder, model) as file:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # a batch is too small to divide: each thread has its own
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.threads = ThreadPoolExecutor(torch.get_num_threads())  # OMP_NUM_THREADS counts here too

    def batch(self, tokens: Tokens, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return a padded batch."""
        from kjcm.model.packing import padded

        return {name: tensor.numpy() for name, tensor in padded(tokens, rows, self.pad).items()}

    def logits(self, batches: Iterable[dict[str, NDArray[np.int64]]]) -> "Iterator[Tensor]":
        """Yield each batch's logits [texts, classes]; several batches are computed at once."""
        import torch

        for found in self.threads.map(lambda batch: self.session.run(None, batch)[0], batches):
            yield torch.from_numpy(found)


@contextmanager
def int8_file(folder: Path, model: "MeanPooled | FirstToken") -> Iterator[Path]:
    """Yield a file of the model in int8: onnx/int8.onnx of its run folder, or, of a model without one, a temporary file.

    Nothing is written next to other model folders: they may be in the hub's cache, or next to further models.
    """
    if (folder.parent / "identity.json").is_file():
        yield _kept_file(folder, model)
        return
    versions("precision=int8")
    with tempfile.TemporaryDirectory(prefix="kjcm-int8-") as temporary:
        file = Path(temporary) / "int8.onnx"
        make_onnx(model, file, int8=True, narrow=saturates())
        yield file


def _kept_file(folder: Path, model: "MeanPooled | FirstToken") -> Path:
    """Return onnx/int8.onnx of a run folder; build it unless an intact file of it exists."""
    file, note = (folder.parent / "onnx" / name for name in ("int8.onnx", "int8.json"))
    made_of = {
        "model": digest(folder),
        "recipe": RECIPE,
        "narrow": saturates(),
        "versions": versions("precision=int8"),
    }
    with suppress(KjcmError):  # no note, or a damaged one: build the file again
        if read_json(note) == {**made_of, "sha256": digest(file)}:
            return file
    with atomic(file) as temporary:
        make_onnx(model, temporary, int8=True, narrow=saturates())
        made = digest(temporary)
    write_json(note, {**made_of, "sha256": made})
    return file


def versions(wanted: str) -> dict[str, str]:
    """Return the versions of the packages that make an ONNX file.

    Args:
        wanted: the key that needs them, as KEY=VALUE.

    Raises:
        ConfigError: one is not installed.
    """
    found = {}
    for name in ("onnx", "onnxruntime", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise ConfigError(f"{wanted} needs the package {name}: pip install 'kjcm[onnx]'.") from None
    return found


def saturates() -> bool:
    """Return whether this processor sums byte products in 16 bits, which overflow unless weights have 7 bits."""
    import torch

    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return platform.machine() in ("x86_64", "AMD64") and not (has.get("avx512_vnni") or has.get("avx_vnni"))


def make_onnx(model: "MeanPooled | FirstToken", target: Path, *, int8: bool, narrow: bool = False) -> None:
    """Write the model as ONNX, in float32 or with linear layers in int8 (one scale per output); this changes `model`.

    Args:
        model: the encoder with its head.
        target: the file.
        int8: whether in int8.
        narrow: weights of 7 bits, which are correct on every processor, also where `saturates`.

    Raises:
        OSError: the file cannot be written.
        ConfigError: an encoder of this kind cannot be exported.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quietly():
        whole, ready = Path(folder) / "float32.onnx", Path(folder) / "ready.onnx"
        try:
            _export(model, whole)
            if not int8:
                shutil.copyfile(whole, target)
                return
            quant_pre_process(whole, ready, skip_optimization=True, skip_symbolic_shape=True)
            quantize_dynamic(
                ready,
                target,
                per_channel=True,
                reduce_range=narrow,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],  # embeddings are looked up, not multiplied
            )
        except OSError:
            raise
        except Exception as error:  # exporters raise many types for an unsupported encoder
            raise ConfigError(
                f"{'precision=int8' if int8 else 'format=onnx'}: encoders of type {model.config.model_type} cannot be "
                f"exported ({first_line(error)}). Use `kjcm predict precision=auto`."
            ) from error


def _export(model: "MeanPooled | FirstToken", file: Path) -> None:
    """Write the model as float32 ONNX for any number of texts and tokens; this changes `model`."""
    import torch

    from kjcm.model.encoder import FirstToken, for_padded_coding

    ids = torch.full((2, 8), 5)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # tracing drops a mask of only ones, so one text is shorter
    body = model.classifier if isinstance(model, FirstToken) else model.encoder
    body.set_attn_implementation("eager")  # 5 % faster in ONNX Runtime than `sdpa`
    for_padded_coding(model)
    axes = {name: {0: "texts", 1: "tokens"} for name in INPUTS} | {"logits": {0: "texts"}}
    with torch.inference_mode():
        torch.onnx.export(
            model.eval(),
            (ids, mask),
            str(file),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,  # the other exporter needs a further package
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the exporter's warnings, and the lines that ONNX Runtime logs to the root logger."""
    root, refuse = logging.getLogger(), lambda record: False
    root.addFilter(refuse)  # it refuses no record of a named logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(refuse)
