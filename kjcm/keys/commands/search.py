"""The keys of `kjcm tune`."""

from dataclasses import dataclass
from typing import Any

from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.key import MISSING, key, seed_key


@dataclass
class SpeedConfig:
    """How a search measures a model's coding speed, `seconds_per_1000_rows`."""

    accelerator: str = key("Device that codes, whatever device trains.", choices=("cpu", "gpu", "auto"), legacy="cpu")
    precision: str = key(
        "Precision of the coding, as in `kjcm predict`.", choices=("auto", "32-true", "bf16", "int8"), legacy="auto"
    )
    rows: int = key("Most validation rows to code.", least=1, most=10**7, legacy=1000)
    repeats: int = key("Times that the rows are coded; the median time counts.", least=1, most=1000, legacy=5)


@dataclass
class SearchConfig:
    """The keys that only `kjcm tune` has."""

    space: dict[str, Any] = key(
        "Config keys and their values: a list, or `low` and `high` with `log` or `step`; the `tune` group sets it."
    )
    trials: int = key(
        "Trials in all, over all processes; with `sampler=grid` at most the combinations.", least=1, most=10**6
    )
    hours: float | None = key(
        "Hours after which this process begins no trial; the same command resumes.", above=0, most=10**5
    )
    sampler: str = key("Optuna's sampler.", choices=("tpe", "random", "grid"))
    sampler_seed: int = seed_key("Seed of the sampler.")
    startup: int = key("`tpe`: random trials before the first modelled one.", least=0, most=10**6)
    pruner: str = key("Optuna's pruner, which ends trials early.", choices=("median", "hyperband", "asha", "none"))
    prune_after: int = key(
        "`median` and `prune_seeds`: finished trials before the first is ended early.", least=0, most=10**6
    )
    prune_from: int = key("Epochs of every trial.", least=1, most=10**6)
    metric: str = key(
        "Metric of the validation rows: `loss`, `accuracy`, `f1_weighted`, ..., `f1_tail`, or one of `metrics`."
    )
    direction: str | None = key("Direction of the search; null: the metric's.", choices=("maximize", "minimize"))
    objectives: list[str] = key(
        "Two metrics of a Pareto search, as `[f1_weighted,seconds_per_1000_rows]`; `[]`: `metric` alone.", legacy=[]
    )
    constraints: Any = key(
        "Metric -> limit that a trial must meet to be the best, as `{f1_tail: '>=0.2'}`; null: none.", legacy=None
    )
    seeds_per_trial: int = key(
        "Trainings of each trial, with the seeds `seed`, `seed` + 1, ...", least=1, most=1000, legacy=1
    )
    over_seeds: str = key(
        "What counts of a trial's seeds: `mean`, or `bound`, the mean made worse by `standard_errors`.",
        choices=("mean", "bound"), legacy="mean",
    )  # fmt: skip
    standard_errors: float = key(
        "`bound`: standard errors of the mean by which it is made worse.", above=0, most=100, legacy=1.0
    )
    prune_seeds: float | None = key(
        "Standard errors by which a trial's first seeds may miss the best trial before the others are left out; null: any.",
        least=0, most=100, legacy=2.0,
    )  # fmt: skip
    tail_share: float = key(
        "`f1_tail`: the smallest groups that together have at most this share of the training rows.",
        above=0, most=1, legacy=0.2,
    )  # fmt: skip
    speed: SpeedConfig = MISSING
    study: str | None = key("Study and its folder in `runs`; null: `tune-` and twelve characters of the study's hash.")
    storage: str | None = key(
        "Journal file or database URL for all processes; null: journal.log in the study's folder.", path=True
    )


@dataclass
class TuneConfig(TrainConfig, SearchConfig):
    """Search for hyperparameters with Optuna; each trial is an ordinary run, judged by validation rows ([tune.md](tune.md)).

    It sets `name`, `run_dir`, `evaluate`, `svm_check` and `overwrite` of each trial.
    Of `sweep` it reads only `sweep.retry`. Install it with `pip install 'kjcm[tune]'`.
    """
