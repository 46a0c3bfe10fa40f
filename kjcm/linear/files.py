"""The files of a linear model: views and vocabularies as JSON, numbers as safetensors."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.config.checks import check_values
from kjcm.config.training import ViewConfig
from kjcm.errors import ConfigError
from kjcm.files import write_json
from kjcm.linear.model import LinearModel
from kjcm.linear.views import View
from kjcm.records import damaged, read_json

VIEWS = {"views": {str: {"of": str, "field": str, "ngrams": [int], "weight": float, "terms": [str]}}}  # linear.json


def write_linear(model: LinearModel, folder: Path) -> None:
    """Write linear.json and linear.safetensors."""
    from safetensors.numpy import save_file

    views = {name: {**asdict(view.config), "terms": view.terms} for name, view in model.views.items()}
    write_json(folder / "linear.json", {"views": views})
    arrays: dict[str, Any] = {"weights": np.ascontiguousarray(model.weights), "bias": np.ascontiguousarray(model.bias)}
    arrays |= {f"idf.{name}": view.idf for name, view in model.views.items()}
    save_file(arrays, folder / "linear.safetensors")


def read_linear(folder: Path, classes: int) -> LinearModel:
    """Read what `write_linear` wrote.

    Args:
        folder: the model folder.
        classes: number of classes.

    Raises:
        KjcmError: a file is damaged, or of a model with other classes.
    """
    file = folder / "linear.json"
    views: dict[str, View] = {}
    arrays = _arrays(folder / "linear.safetensors")
    record: dict[str, Any] = read_json(file, VIEWS)
    for name, values in record["views"].items():
        terms, idf = values.pop("terms"), arrays.get(f"idf.{name}")
        try:
            check_values(ViewConfig, values, f"views.{name}.")
        except ConfigError as error:
            raise damaged(file, error) from None
        if len(values["ngrams"]) != 2 or values["ngrams"][0] > values["ngrams"][1]:
            raise damaged(file, f"view {name}: ngrams is {values['ngrams']}")
        if idf is None or idf.shape != (len(terms),) or len(set(terms)) != len(terms):
            raise damaged(file, f"view {name}: the terms do not fit linear.safetensors")
        views[name] = View(ViewConfig(**values), terms, idf)
    size = sum(len(view.idf) for view in views.values())
    if arrays["weights"].shape != (size, classes) or arrays["bias"].shape != (classes,):
        raise damaged(folder / "linear.safetensors", "the weights do not fit the terms and classes")
    return LinearModel(views, arrays["weights"], arrays["bias"])


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
