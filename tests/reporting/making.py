"""Finished runs as `kjcm train` and `kjcm baseline` leave them, their predictions drawn by chance: no training, no torch.

The rows come from files of an invented survey, by way of the package's own cohort, and everything but the predictions
is written by what writes it in a training; so a run made here cannot drift from a real one.
"""

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from kjcm.files import write_json, write_parquet
from kjcm.keys.commands.train import BaselineConfig, SurveyConfig, TrainConfig
from kjcm.keys.composition import register, without_hydra
from kjcm.keys.overrides import config_folder
from kjcm.ksco.classification import load_classification
from kjcm.run_folder.folder import RunFolder, default_path, identity_of
from kjcm.run_folder.results import Outcome, about_texts
from kjcm.survey.rows import Rows, rows_of
from kjcm.training.linear import PACKAGES as BASELINE_PACKAGES
from kjcm.training.run import claimed_run, report_record
from kjcm.training.train import PACKAGES

WIDTH = 10
EVERY = 4  # one in so many minor groups has rows in the invented survey
SMALL = 4  # groups of ten rows or fewer
DOUBTFUL = ("2990", "1110", "1120")  # a KSCO-6 code and the two KSCO-7 codes that it may have become
_ROWS: dict[str, Rows] = {}  # by what says which rows a run has
NEVER = slice(2, None, 7)  # classes that a model never puts first


def write_survey(folder: Path, seed: int = 0) -> None:
    """Write wave5.csv, wave6.csv and crosswalk.csv with invented answers to minor groups of all major groups.

    Group sizes grow from 11 to 170 rows; some groups are smaller. A fifth of the rows shares its text with rows of
    any group, another fifth with rows of its own group. `area` is a cluster.
    """
    generator = np.random.default_rng(seed)
    ksco = load_classification("ksco7")
    minor = [*ksco.codes(3)[::EVERY], "A01"]
    sizes = np.append(np.geomspace(11, 170, len(minor) - SMALL), [3, 5, 8, 10]).astype(int)
    groups = np.repeat(generator.permutation(minor), sizes)
    codes = [generator.choice([code for code in ksco.below(group) if len(code) == 4] or [group]) for group in groups]
    rows = pd.DataFrame(
        {"code": codes, "area": [f"area-{number}" for number in generator.integers(60, size=len(codes))]}
    )
    kinds = generator.choice(["흔한 일", "늘 하는 일", "맡은 일"], size=len(rows), p=[0.2, 0.2, 0.6])
    tasks = [
        f"{kind} " + {"흔": str(row % 40), "늘": f"{group} {row % 3}", "맡": str(row)}[kind[0]]
        for row, (kind, group) in enumerate(zip(kinds, groups, strict=True))
    ]
    rows = rows.assign(workplace=[f"일터 {len(task) % 3}" for task in tasks], position="직원", task=tasks)
    waves = generator.permutation(len(rows)) % 2 == 0
    for name, chosen in (("wave5", rows[waves]), ("wave6", rows[~waves])):
        chosen = chosen.assign(id=[str(row + 1) for row in range(len(chosen))])
        if name == "wave5":
            chosen.iloc[:6, chosen.columns.get_loc("code")] = DOUBTFUL[0]
        chosen.to_csv(folder / f"{name}.csv", index=False)
    pairs = [(code, code) for code in sorted({*codes} - {DOUBTFUL[0]})] + [(DOUBTFUL[0], code) for code in DOUBTFUL[1:]]
    pd.DataFrame(pairs, columns=["ksco6", "ksco7"]).to_csv(folder / "crosswalk.csv", index=False)


def survey_words(folder: Path) -> tuple[str, ...]:
    """Return the words of a command that name the files of `write_survey`."""
    return ("data=kwcs", *(f"data.{name}={folder / name}.csv" for name in ("wave5", "wave6", "crosswalk")))


@dataclass(frozen=True)
class Plan:
    """A run to be made.

    Attributes:
        words: of its command, beside those that name the data.
        settings: dotted key -> value, what these words stand for.
        command: 'train' or 'baseline'.
        skill: share of rows of a large group that it gives the right code.
    """

    words: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = "train"
    skill: float = 0.8


MANUAL = {"augment.titles": True}
PLANS = {
    "k_jcm": Plan(("experiment=k_jcm",)),
    "k_jcm_half": Plan(("experiment=k_jcm_half",), {"data.train_fraction": 0.5}, skill=0.7),
    "model_2": Plan(("experiment=model_2",), {"data.cutoff": 100}, skill=0.85),
    "model_3": Plan(("experiment=model_3",), MANUAL),
    "model_4": Plan(("experiment=model_4",), {"data.cutoff": 100, **MANUAL}, skill=0.9),
    "majority": Plan(("kind=majority", "name=majority"), {"kind": "majority"}, "baseline"),
    "svm": Plan(("kind=svm", "name=svm"), {"kind": "svm"}, "baseline", 0.7),
    "svm_manual": Plan(
        ("kind=svm", "augment=manual", "name=svm_manual"), {"kind": "svm", **MANUAL}, "baseline", 0.75
    ),
    "klue_bert": Plan(
        ("experiment=k_jcm", "model=klue_bert", "name=klue_bert"),
        {"model.name": "klue_bert", "model.pretrained": "klue/bert-base", "optim.lr": 5e-5},
        skill=0.82,
    ),
    "level_4": Plan(("experiment=k_jcm", "data.level=4", "name=level_4"), {"data.level": 4}, skill=0.6),
    "wave_5_to_6": Plan(
        ("experiment=k_jcm", "data.train_wave=5", "name=wave_5_to_6"), {"data.train_wave": 5}, skill=0.7
    ),
    "search": Plan(("experiment=search",), {"evaluate": False, "data.validation": 0.1}),
}  # fmt: skip


def make_run(
    runs: Path, key: str, data: Sequence[str], seed: int = 0, settings: Mapping[str, Any] | None = None, name: str = ""
) -> Path:
    """Write the finished run of a plan into `runs` and return its folder.

    Args:
        runs: the folder of all runs.
        key: of PLANS.
        data: words of the command that name the data.
        seed: of the run, and of its invented predictions.
        settings: further dotted keys with their values.
        name: of the run, where it is not `key`.
    """
    plan = PLANS[key]
    cfg = copy.deepcopy(_composed(plan.command, tuple(data)))
    for at, value in ({"name": name or key, "seed": seed} | dict(plan.settings) | dict(settings or {})).items():
        OmegaConf.update(cfg, at, value, force_add=True)
    cfg.hydra.overrides.task = [*plan.words, *data, f"seed={seed}"]
    HydraConfig.instance().set_config(cfg)
    cfg = without_hydra(cfg)
    config: TrainConfig | BaselineConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    identity = identity_of(asdict(config))
    folder = RunFolder(default_path(str(runs), config.name, identity), identity)
    rows = _rows_of(config, test=config.evaluate if isinstance(config, TrainConfig) else True)
    with claimed_run(folder, cfg, config, rows):
        _fill(folder, config, rows, plan, dict(settings or {}))
    return folder.path


@cache
def _composed(command: str, words: tuple[str, ...]) -> DictConfig:
    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, [*words], return_hydra_config=True)


def _rows_of(config: SurveyConfig, test: bool) -> Rows:
    key = repr((config.data, config.augment, config.classification, test))
    if key not in _ROWS:
        _ROWS[key] = rows_of(config, test=test, cache=None)
    return _ROWS[key]


def _fill(
    folder: RunFolder, config: TrainConfig | BaselineConfig, rows: Rows, plan: Plan, settings: dict[str, Any]
) -> None:
    """Write predictions, report.json and DONE; `settings` make the run's predictions its own."""
    kind = config.kind if isinstance(config, BaselineConfig) else "encoder"
    found: dict[str, tuple[dict[str, float], dict[str, list[float]]]] = {"test": ({}, {}), "validation": ({}, {})}
    for number, side in enumerate(found):
        if side in rows.sides:
            draw = [zlib.crc32(f"{config.name} {settings}".encode()), config.seed, number]
            frame = predictions(rows, side, plan.skill, draw, kind)
            found[side] = measured(frame, [*rows.cohort.classes, *rows.unseen[side]])
            if side == "test":
                frame = frame.join(about_texts(rows.sides["test"], rows.sides["train"]["text"]))
                write_parquet(folder.path / "predictions.parquet", frame)
    encoder: dict[str, Any] = {
        "unknown_share": 0.01,
        "precision": "32-true",
        "engine": "packed",
        "epochs": 2,
        "parameters": 1000,
    }
    loss = {"loss": 1.25} if found["validation"][0] and kind == "encoder" else {}
    outcome = Outcome(*found["test"], {**found["validation"][0], **loss}, [], [], "CPU (invented)")
    packages = PACKAGES if kind == "encoder" else BASELINE_PACKAGES
    report = {
        **report_record(config, folder, rows, outcome, kind, packages),
        **(encoder if kind == "encoder" else dict.fromkeys(encoder)),
        "seconds": {"prepare": 1.0, "fit": 2.0, "total": 3.0},
    }
    write_json(folder.path / "report.json", report)
    folder.finish()


def predictions(rows: Rows, side: str, skill: float, seed: Sequence[int], kind: str) -> pd.DataFrame:
    """Return id, code, code_1..code_10, prob_1..prob_10: better for larger groups, some classes never the first.

    Args:
        rows: of the run.
        side: 'test' or 'validation'.
        skill: share of rows of a large group that are right.
        seed: of the draw.
        kind: encoder; svm, which has no probabilities; or majority, which gives each row the largest groups.
    """
    generator = np.random.default_rng(seed)
    frame, classes = rows.sides[side][["id", "code"]].reset_index(drop=True), np.array(rows.cohort.classes, object)
    sizes = np.bincount(rows.labels["train"], minlength=len(classes)).astype(float)
    scores = (
        np.tile(sizes, (len(frame), 1)) if kind == "majority" else _scores(rows.labels[side], sizes, skill, generator)
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :WIDTH]
    prob = np.take_along_axis(scores, order, axis=1)
    prob = (prob / prob.sum(axis=1, keepdims=True) * 0.98).astype(np.float32)
    for k in range(WIDTH):
        frame[f"code_{k + 1}"] = classes[order[:, k]] if k < order.shape[1] else None
    for k in range(WIDTH):
        frame[f"prob_{k + 1}"] = prob[:, k] if kind != "svm" and k < order.shape[1] else np.float32("nan")
    return frame


def _scores(labels: Any, sizes: Any, skill: float, generator: np.random.Generator) -> Any:
    """Return positive scores [rows, classes] of an invented model."""
    scores = generator.gamma(0.3, size=(len(labels), len(sizes))) + 1e-6
    never = np.isin(np.arange(len(sizes)), np.arange(len(sizes))[NEVER])
    known = np.flatnonzero(labels < len(sizes))
    right = known[generator.random(len(known)) < skill * (~never * np.sqrt(sizes / sizes.max()))[labels[known]]]
    scores[known, labels[known]] *= 10  # the right code is often among the first
    scores[right, labels[right]] = scores[right].max(axis=1) * generator.uniform(1.1, 8, len(right))
    scores[:, never] *= 0.9 * (scores[:, ~never].max(axis=1) / scores[:, never].max(axis=1, initial=1e-9))[:, None]
    return scores


def measured(frame: pd.DataFrame, codes: list[str]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return metrics and per-class lists as a run has them, by scikit-learn."""
    truth, first = frame["code"].tolist(), frame["code_1"].tolist()
    found: dict[str, float] = {"accuracy": float(accuracy_score(truth, first))}
    for average in ("weighted", "macro"):
        parts = precision_recall_fscore_support(truth, first, average=average, zero_division=0)
        found |= {f"{name}_{average}": float(v) for name, v in zip(("precision", "recall", "f1"), parts, strict=False)}
    hits = np.stack([frame[f"code_{k + 1}"] == frame["code"] for k in range(WIDTH)], axis=1)
    found |= {f"top_{k}_accuracy": float(hits[:, :k].any(axis=1).mean()) for k in range(2, 6)}
    parts = precision_recall_fscore_support(truth, first, labels=codes, zero_division=0)
    per_class = {
        name: [float(v) for v in own] for name, own in zip(("precision", "recall", "f1", "n"), parts, strict=True)
    }
    return found, {**per_class, "n_predicted": [float(first.count(code)) for code in codes]}
