"""Save encoders with their heads, and load them without running code or pickles."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PretrainedConfig

from kjcm.errors import KjcmError, first_line, some
from kjcm.model.covariates import NAME, add_covariates
from kjcm.model.encoder import FirstToken, MeanPooled, new_encoder
from kjcm.model.encoder_config import config_in
from kjcm.model.label_text import LabelText


def save_encoder(model: MeanPooled | FirstToken, folder: Path) -> None:
    """Write config.json and model.safetensors; transformers can load a first-token model by itself."""
    if isinstance(model, FirstToken):
        model.classifier.save_pretrained(folder)
        return
    from safetensors.torch import save_file

    model.config.save_pretrained(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})


def load_encoder(folder: Path, pooling: str) -> MeanPooled | FirstToken:
    """Load an encoder that `save_encoder` wrote.

    Raises:
        KjcmError: a file is missing or truncated, or has other shapes.
    """
    from safetensors.torch import load_file

    try:
        config = config_in(folder)
        shapes = _shapes_in(folder / "model.safetensors")
        _require_shapes(config, pooling, shapes)
        model = _of_shapes(config, pooling, shapes)
        model.saved.load_state_dict(load_file(str(folder / "model.safetensors")))
    except Exception as error:  # every library below has its own errors
        raise KjcmError(
            f"{folder}: the model cannot be loaded, it is incomplete or damaged ({first_line(error)})."
        ) from None
    return model


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118


def _of_shapes(
    config: PretrainedConfig, pooling: str, shapes: Mapping[str, tuple[int, ...]]
) -> MeanPooled | FirstToken:
    """Return an encoder with new weights, and the head and covariates that its stored shapes show."""
    model = new_encoder(config, pooling)
    if isinstance(model, MeanPooled) and "head.vectors" in shapes:
        titles, width = shapes["head.vectors"]
        classes, most = shapes["head.places"]
        model.head = LabelText(width, titles, classes, most, both="head.linear.weight" in shapes)
    if NAME in shapes:
        add_covariates(model, int(config.num_labels or 2), shapes[NAME][1])
    return model


def _require_shapes(config: PretrainedConfig, pooling: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless a configuration's weight shapes are `shapes`; check before allocating any weight."""
    with torch.device("meta"):
        model = _of_shapes(config, pooling, shapes)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.saved.state_dict().items()}
    if other := sorted(name for name in {*shapes, *wanted} if wanted.get(name) != shapes.get(name)):
        raise ValueError(f"the configuration and the weights differ in {some(other)}")
