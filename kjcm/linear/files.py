"""The files of linear and nearest-neighbour models: views as JSON, numbers as safetensors, the encoder in a subfolder."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.errors import ConfigError
from kjcm.files import write_json
from kjcm.keys.checks import check_values
from kjcm.keys.models import ViewConfig
from kjcm.linear import ENCODER
from kjcm.linear.embedding import Embedder
from kjcm.linear.encoder_view import EncoderView
from kjcm.linear.model import AnyView, LinearModel
from kjcm.linear.nearest import Examples, NearestModel
from kjcm.linear.views import COVARIATES, CovariatesView, View
from kjcm.records import Count, damaged, read_json
from kjcm.survey.covariates import NO_COVARIATES, Covariates

Views = Mapping[str, AnyView]

VIEWS = {  # linear.json; `covariates` is the weight of their view
    "views": {str: {"of": str, "field": str, "ngrams": [int], "weight": float, "terms": [str]}},
    "covariates?": float,
}
LINEAR = {**VIEWS, "saturation?": float, "temperature?": float}  # older models have neither
NEAREST = {**VIEWS, "neighbours": Count, "titles": [str], "texts": ([str], None)}  # nearest.json
CSR = ("data", "indices", "indptr")  # arrays of a sparse matrix


def write_linear(model: LinearModel, folder: Path) -> None:
    """Write linear.json, linear.safetensors and the encoder's files."""
    about = {"saturation": model.saturation, "temperature": model.temperature}
    _write(folder / "linear", model.views, about, {"weights": model.weights, "bias": model.bias})


def write_nearest(model: NearestModel, folder: Path) -> None:
    """Write nearest.json, nearest.safetensors and the encoder's files."""
    arrays: dict[str, Any] = {"weights": model.weights}
    for lead, examples in (("titles", model.titles), ("rows", model.rows)):
        arrays[f"{lead}.labels"] = examples.labels
        for name, vectors in examples.vectors.items():
            arrays |= {f"{lead}.{part}.{name}": getattr(vectors, part) for part in CSR}
    about = {"neighbours": model.neighbours, "titles": model.titles.texts, "texts": model.rows.texts}
    _write(folder / "nearest", model.views, about, arrays)


def _write(path: Path, views: Views, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write PATH.json, PATH.safetensors and the encoder's files."""
    from safetensors.numpy import save_file

    listed = {
        name: {**asdict(view.config), "terms": list(view.terms)} for name, view in views.items() if name != COVARIATES
    }
    more = {"covariates": views[COVARIATES].config.weight} if COVARIATES in views else {}
    write_json(path.with_suffix(".json"), {"views": listed, "short_words": True, **more, **about})
    learnt = {f"{part}.{name}": array for name, view in views.items() for part, array in view.arrays().items()}
    whole = {name: np.ascontiguousarray(array) for name, array in {**arrays, **learnt}.items()}
    save_file(whole, path.with_suffix(".safetensors"))
    for view in views.values():
        if isinstance(view, EncoderView):
            return view.embedder.save(path.with_name(ENCODER))


def read_linear(
    folder: Path, classes: int, embedder: Embedder | None = None, covariates: Covariates = NO_COVARIATES
) -> LinearModel:
    """Read what `write_linear` wrote.

    Args:
        folder: the model folder.
        classes: number of classes.
        embedder: of views of an encoder.
        covariates: of the model.

    Raises:
        KjcmError: a file is damaged, or of a model with other classes.
    """
    file, about = folder / "linear.safetensors", folder / "linear.json"
    arrays, record = _arrays(file, "weights", "bias"), read_json(about, LINEAR)
    views = _views(about, record, arrays, embedder, covariates)
    size = sum(view.size for view in views.values())
    if arrays["weights"].shape != (size, classes) or arrays["bias"].shape != (classes,):
        raise damaged(file, "the weights do not fit the terms and classes")
    saturation, temperature = record.get("saturation", 0.0), record.get("temperature", 1.0)
    if not 0 <= saturation < np.inf or not 0 < temperature < np.inf:
        raise damaged(about, f"saturation is {saturation}, temperature {temperature}")
    return LinearModel(views, arrays["weights"], arrays["bias"], saturation, temperature)


def read_nearest(
    folder: Path, classes: int, embedder: Embedder | None = None, covariates: Covariates = NO_COVARIATES
) -> NearestModel:
    """Read what `write_nearest` wrote; see `read_linear`."""
    file, about = folder / "nearest.safetensors", folder / "nearest.json"
    arrays, record = _arrays(file, "weights"), read_json(about, NEAREST)
    views = _views(about, record, arrays, embedder, covariates)
    try:
        titles = _examples(arrays, "titles", views, classes, record["titles"])
        rows = _examples(arrays, "rows", views, classes, record["texts"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from None
    model = NearestModel(views, titles, rows, arrays["weights"], record["neighbours"], classes)
    if model.weights.shape != model.prior().shape or not model.neighbours:
        raise damaged(file, "the weights do not fit the views")
    return model


def _examples(arrays: Mapping[str, Any], lead: str, views: Views, classes: int, texts: list[str] | None) -> Examples:
    """Return titles or training rows.

    Raises:
        KeyError, TypeError, ValueError: arrays are missing, or do not fit each other.
    """
    from scipy.sparse import csr_matrix

    labels = arrays[f"{lead}.labels"]
    sorted_classes = labels.ndim == 1 and labels.dtype == np.int64 and (np.diff(labels) >= 0).all()
    if not sorted_classes or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"{lead}: the labels are no classes")
    if texts is not None and len(texts) != len(labels):
        raise ValueError(f"{lead}: there are {len(labels)} labels for {len(texts)} texts")
    vectors = {}
    for name, view in views.items():
        parts = tuple(arrays[f"{lead}.{part}.{name}"] for part in CSR)
        vectors[name] = csr_matrix(parts, shape=(len(labels), view.size), dtype=np.float32)
        vectors[name].check_format(full_check=True)
    return Examples(labels, vectors, texts)


def _views(
    file: Path,
    record: Mapping[str, Any],
    arrays: Mapping[str, Any],
    embedder: Embedder | None,
    covariates: Covariates,
) -> dict[str, AnyView]:
    """Return the views of a model's JSON file.

    Raises:
        KjcmError: the file is damaged.
    """
    views: dict[str, AnyView] = {}
    for name, values in record["views"].items():
        terms = values.pop("terms")
        try:
            check_values(ViewConfig, values, f"views.{name}.")
            short = record.get("short_words") is True
            views[name] = _view(ViewConfig(**values), terms, arrays, name, embedder, short)
        except (ConfigError, TypeError, ValueError) as error:  # TypeError: the view has an unknown key
            raise damaged(file, error) from None
    if (weight := record.get("covariates", 0)) > 0:
        views[COVARIATES] = CovariatesView(weight, covariates)
    if (COVARIATES in views) != bool(covariates):
        raise damaged(file, "the covariates are not those of kjcm.json")
    return views


def _view(
    config: ViewConfig, terms: list[str], arrays: Mapping[str, Any], name: str, embedder: Embedder | None, short: bool
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
            raise ValueError(f"view {name}: the encoder does not fit its arrays")
        return EncoderView(config, embedder, mean, matrix)
    if len(config.ngrams) != 2 or config.ngrams[0] > config.ngrams[1]:
        raise ValueError(f"view {name}: ngrams is {config.ngrams}")
    if idf.shape != (len(terms),) or len(set(terms)) != len(terms):
        raise ValueError(f"view {name}: the terms do not fit their arrays")
    return View(config, terms, idf, short_words=short)


def _arrays(file: Path, *names: str) -> dict[str, Any]:
    """Return the arrays of a file.

    Raises:
        KjcmError: it is none of safetensors, or lacks one of `names`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, Any] = load_file(file)
    except SafetensorError as error:
        raise damaged(file, error) from None
    if not set(names) <= set(found) or not all(np.isfinite(part).all() for part in found.values()):
        raise damaged(file, "there are no weights, or not all are numbers")
    return found
