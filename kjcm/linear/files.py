"""The files of a linear model: views and vocabularies as JSON, numbers as safetensors, the encoder in a subfolder."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.config.checks import check_values
from kjcm.config.training import ViewConfig
from kjcm.errors import ConfigError
from kjcm.files import write_json
from kjcm.linear import ENCODER
from kjcm.linear.embedding import Embedder, EncoderView
from kjcm.linear.model import AnyView, LinearModel
from kjcm.linear.views import View
from kjcm.records import damaged, read_json

VIEWS = {"views": {str: {"of": str, "field": str, "ngrams": [int], "weight": float, "terms": [str]}}}  # linear.json


def write_linear(model: LinearModel, folder: Path) -> None:
    """Write linear.json, linear.safetensors and the encoder's files."""
    from safetensors.numpy import save_file

    views = {name: {**asdict(view.config), "terms": list(view.terms)} for name, view in model.views.items()}
    write_json(folder / "linear.json", {"views": views})
    arrays: dict[str, Any] = {"weights": np.ascontiguousarray(model.weights), "bias": np.ascontiguousarray(model.bias)}
    for name, view in model.views.items():
        arrays |= {f"{part}.{name}": np.ascontiguousarray(array) for part, array in view.arrays().items()}
    save_file(arrays, folder / "linear.safetensors")
    for view in model.views.values():
        if isinstance(view, EncoderView):
            return view.embedder.save(folder / ENCODER)


def read_linear(folder: Path, classes: int, embedder: Embedder | None = None) -> LinearModel:
    """Read what `write_linear` wrote.

    Args:
        folder: the model folder.
        classes: number of classes.
        embedder: of views of an encoder.

    Raises:
        KjcmError: a file is damaged, or of a model with other classes.
    """
    file = folder / "linear.json"
    views: dict[str, AnyView] = {}
    arrays = _arrays(folder / "linear.safetensors")
    record: dict[str, Any] = read_json(file, VIEWS)
    for name, values in record["views"].items():
        terms = values.pop("terms")
        try:
            check_values(ViewConfig, values, f"views.{name}.")
            views[name] = _view(ViewConfig(**values), terms, arrays, name, embedder)
        except (ConfigError, ValueError) as error:
            raise damaged(file, error) from None
    size = sum(view.size for view in views.values())
    if arrays["weights"].shape != (size, classes) or arrays["bias"].shape != (classes,):
        raise damaged(folder / "linear.safetensors", "the weights do not fit the terms and classes")
    return LinearModel(views, arrays["weights"], arrays["bias"])


def _view(
    config: ViewConfig, terms: list[str], arrays: Mapping[str, Any], name: str, embedder: Embedder | None
) -> AnyView:
    """Return a view.

    Raises:
        ValueError: its terms or n-grams do not fit its kind, its arrays or the encoder.
    """
    idf, mean, matrix = (arrays.get(f"{part}.{name}", np.empty(())) for part in ("idf", "mean", "matrix"))
    if config.of == "encoder":
        if embedder is None or config.ngrams or terms:
            raise ValueError(f"view {name}: an embedding has an encoder, and neither n-grams nor terms")
        if mean.shape != (embedder.width,) or matrix.shape != (embedder.width, embedder.width):
            raise ValueError(f"view {name}: the encoder does not fit linear.safetensors")
        return EncoderView(config, embedder, mean, matrix)
    if len(config.ngrams) != 2 or config.ngrams[0] > config.ngrams[1]:
        raise ValueError(f"view {name}: ngrams is {config.ngrams}")
    if idf.shape != (len(terms),) or len(set(terms)) != len(terms):
        raise ValueError(f"view {name}: the terms do not fit linear.safetensors")
    return View(config, terms, idf)


def _arrays(file: Path) -> dict[str, Any]:
    """Return the arrays of a file.

    Raises:
        KjcmError: it is none of safetensors, or has no weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, Any] = load_file(file)
    except SafetensorError as error:
        raise damaged(file, error) from None
    if not {"weights", "bias"} <= set(found) or not all(np.isfinite(part).all() for part in found.values()):
        raise damaged(file, "there are no weights, or not all are numbers")
    return found
