"""The keys of the commands that build a cohort, train or evaluate."""

from dataclasses import dataclass, field
from typing import Any

from kjcm.keys.coding import UNSEEN
from kjcm.keys.key import MISSING, key, seed_key
from kjcm.keys.models import EncoderConfig, ModelConfig, TokenizerConfig
from kjcm.keys.survey import AugmentConfig, ClassificationConfig, DataConfig, PretrainingConfig
from kjcm.keys.training import (
    BaselineSeeds,
    EngineConfig,
    ParamGroupsConfig,
    PresetConfig,
    Seeds,
    SweepConfig,
    TrainerConfig,
)


@dataclass
class SurveyConfig:
    """The keys of the commands that build a cohort."""

    data: DataConfig = MISSING
    augment: AugmentConfig = MISSING
    classification: ClassificationConfig = MISSING


@dataclass
class PrepareConfig(SurveyConfig):
    """Build the cohort alone: cohort.json, cohort.parquet, left.csv and to_resolve.csv.

    Augmentation adds augmented.csv, and the synthetic twin its raw files in twin/.
    """

    preset: PresetConfig = MISSING
    name: str = key("Name that experiments set; `prepare` does not use it.")
    out: str = key("Folder to write.", path=True)
    overwrite: bool = key("`true`: replace the cohort in `out`.")


@dataclass
class RunConfig(SurveyConfig):
    """The keys of the commands that fill a run folder."""

    preset: PresetConfig = key("", identity="where")
    sweep: SweepConfig = key("", identity="where")
    name: str = key("Folder in `runs` and the experiment's name in report.json; experiments set it.", identity="where")
    seed: int = seed_key("Seed of all that is random but the split.", identity="where")
    runs: str = key("Folder of all runs.", path=True, identity="where")
    run_dir: str | None = key(
        "Folder of this run; null: `runs`/`name`/first twelve characters of the run's hash. Not with `-m`.",
        path=True, identity="where",
    )  # fmt: skip
    overwrite: bool = key("`true`: clear the run folder, whatever run it contains, and start again.", identity="where")


@dataclass
class TrainConfig(RunConfig):
    """Train and evaluate a model; write a run folder ([run-folder.md](run-folder.md)).

    With `-m`, a list of values gives one run for each value: `kjcm train -m seed=0,1,2`.
    """

    tokenizer: TokenizerConfig = MISSING
    model: ModelConfig = MISSING
    loss: dict[str, Any] = key("Loss: `_target_` and its arguments ([extending.md](extending.md)).")
    optim: dict[str, Any] = key("Optimiser: `_target_` and its arguments.")
    param_groups: ParamGroupsConfig = field(default_factory=ParamGroupsConfig)
    schedule: dict[str, Any] = key("Schedule of the learning rate: `_target_` and its arguments.")
    callbacks: dict[str, Any] = key("Lightning callbacks: name -> `_target_` and its arguments.")
    metrics: dict[str, Any] = key("Further torchmetrics: name -> `_target_` and its arguments.")
    engine: EngineConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] = key("", identity="where")
    seeds: Seeds = MISSING
    evaluate: bool = key("`false`: leave the test rows alone; the report then has no test metrics.")
    svm_check: int = key(
        "Most training rows, with augmentation, for which an encoder is compared with a linear SVM; 0: never.",
        least=0, most=10**9, identity="where",
    )  # fmt: skip
    cache: str = key(
        "Folder of cohorts, tokenizers and tokens for the next runs of the same data ([the cache](data.md#the-cache)).",
        path=True, identity="where",
    )  # fmt: skip

    @property
    def encoder(self) -> EncoderConfig:
        """Return the model, which is an encoder."""
        assert isinstance(self.model, EncoderConfig)
        return self.model


@dataclass
class BaselineConfig(RunConfig):
    """Measure a baseline on the same rows; write a run folder ([run-folder.md](run-folder.md#baselines)).

    `kind=svm` is scikit-learn's LinearSVC (dual solver), one group against the rest, on TF-IDF of the character n-grams
    within words (logarithmic term frequency). It learns from the training rows and the augmentation, and keeps its
    model. `kind=majority` gives every row the largest group of the training rows (without augmentation), then the next
    largest, and so on; it keeps no model.
    With `-m`, a list of values gives one run for each value.
    """

    seeds: BaselineSeeds = MISSING
    kind: str = key("Kind of baseline.", choices=("svm", "majority"))
    ngrams: list[int] = key("`svm`: fewest and most characters of an n-gram.", least=1)
    C: float = key("`svm`: LinearSVC's C; a smaller C regularises more.", above=0, most=10**9)


@dataclass
class EvaluateConfig:
    """Evaluate a finished run on its own test rows, or on those of other data.

    It writes metrics.json, predictions.parquet and cohort.json. Level, classification and covariates are the run's.
    With `data=table data.test_path=FILE` every row of FILE is a test row. The `data` keys then have the defaults of this
    page, not the run's values, so give `data.columns` again where the names differ.
    """

    run: str = key("Run folder; the run must be finished (DONE).", path=True)
    data: DataConfig | None = None
    preset: PresetConfig = MISSING
    trainer: TrainerConfig = MISSING
    batch_size: int = key("Rows of a step.", least=1, most=10**6)
    unseen_levels: str = key(f"{UNSEEN} Only with `data`.", choices=("error", "missing"))
    out: str | None = key("Folder to write; null: `evaluations`/HASH in the run folder.", path=True)
    overwrite: bool = key("`true`: evaluate again, and replace what `out` contains.")


@dataclass
class PretrainConfig(TrainConfig):
    """Train an encoder to predict hidden tokens of texts, as a start for `kjcm train` ([pretraining.md](pretraining.md)).

    The survey's rows need no codes (`data.columns.code=null`). With codes, only the training rows of the split count.
    """

    pretraining: PretrainingConfig = MISSING
