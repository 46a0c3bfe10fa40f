"""The model card: README.md of a model folder, in Hugging Face's form, from the run's own records."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment

from kjcm.confusion import counts, precision_recall_f1
from kjcm.files import write_text
from kjcm.keys.commands.train import RunConfig, TrainConfig
from kjcm.keys.models import EncoderConfig, LinearConfig, ModelConfig, ViewsConfig
from kjcm.ksco.classification import Classification
from kjcm.markdown import escaped
from kjcm.metrics import shown
from kjcm.run_folder.contents import run_predictions
from kjcm.run_folder.held_out import calibration_of
from kjcm.run_folder.model_folder import UNVALIDATED
from kjcm.run_folder.results import flow_lines
from kjcm.survey.rows import Rows

CARD = "README.md"
TEMPLATE = "card.md.jinja"


def write_card(
    path: Path, config: RunConfig, model: ModelConfig, rows: Rows, report: Mapping[str, Any], version: str
) -> None:
    """Write the card of a run folder's model.

    Args:
        path: the run folder, with predictions and model.
        config: of the run.
        model: config of the model.
        rows: of the run.
        report: what report.json will hold.
        version: of kjcm.
    """
    data = config.data
    encoder = model if isinstance(model, EncoderConfig) else None
    embeds = isinstance(model, ViewsConfig) and model.embeds
    covariates = [name for names in data.columns.covariates.values() for name in names]
    hub, start = origin_of(model.pretrained if isinstance(model, EncoderConfig | ViewsConfig) else None)
    values = {
        **report,
        "name": config.name,
        "classes": report["n_classes"],
        "classification": rows.classification.name,
        "version": version,
        "run": report["hashes"]["run"][:12],
        "flow": flow_lines(rows.cohort),
        "source": {
            "synthetic": "the synthetic twin",
            "kwcs": "Korean Working Conditions Survey",
            "titles": "titles",
        }.get(data.source, "a table"),
        "cohort": report["hashes"]["cohort"][:12],
        "split": report["hashes"]["split"][:12],
        "cutoff": data.cutoff,
        "left": sum(code not in rows.cohort.classes for code in rows.cohort.left_groups),
        "model": model.name,
        "base": hub,
        "start": start,
        "embeds": embeds,
        "covariates": covariates,
        "optim": _optimiser(config.optim) if isinstance(config, TrainConfig) else "",
        "batch": data.batch_size,
        "summary": shown(report["metrics"]),
        "majors": _majors(path, rows.classification) if report["metrics"] else [],
        "calibration": calibration_of(path / "model"),
        "unvalidated": UNVALIDATED if data.source == "titles" else "",
        "korean": data.source in ("synthetic", "kwcs"),  # the language of other texts is not known
        # its own head, which transformers can load
        "transformers": encoder is not None and encoder.pooling == "cls" and not covariates,
        "learnt": encoder is not None and isinstance(config, TrainConfig) and config.tokenizer.kind == "trained",
        "views": [replace(view, of=report["views"][name]).title for name, view in model.views.items()]
        if isinstance(model, ViewsConfig)
        else [],
        "calibration_folds": isinstance(model, LinearConfig) and model.calibration_folds > 1,
    }
    template = (files("kjcm.run_folder") / TEMPLATE).read_text(encoding="utf-8")
    # the card is Markdown, not HTML: names and titles from a user's files are escaped as each is placed
    environment = Environment(autoescape=False, keep_trailing_newline=True, finalize=_escaped)
    write_text(path / "model" / CARD, environment.from_string(template).render(values))


def _optimiser(optim: Mapping[str, Any]) -> str:
    """Return the optimiser's name and rate."""
    return str(optim["_target_"]).rpartition(".")[2] + (f" at {optim['lr']:g}" if "lr" in optim else "")


def _escaped(value: object) -> object:
    """Return a value for Markdown; the template marks what is no Markdown with the filter `safe` or `tojson`."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def origin_of(pretrained: str | None) -> tuple[str | None, str]:
    """Return the hub name that weights come from, None without one, and what a card says of it.

    A folder's path is of no use to a reader, and says where the model was made.
    """
    if pretrained is None:
        return None, "random start"
    return (None, "weights of a folder") if Path(pretrained).exists() else (pretrained.partition("@")[0], pretrained)


def _majors(path: Path, classification: Classification) -> list[dict[str, Any]]:
    """Return code, title, test rows, precision, recall and F1 of each major group that occurs."""
    codes = run_predictions(path, ["code", "code_1"])
    majors = [classification.top(code) for code in (*codes["code"], *codes["code_1"])]
    numbers, names = pd.factorize(np.array(majors, object), sort=True)
    truth, first = np.split(numbers, 2)
    found = counts(truth, first, len(names))
    return [
        {"code": code, "title": classification.title(code), "n": int(n), "precision": p, "recall": r, "f1": f1}
        for code, n, p, r, f1 in zip(names, found[0], *precision_recall_f1(*found), strict=True)
    ]
