"""The keys of the commands, and all keys by command and group."""

from dataclasses import dataclass, field
from typing import Any

from kjcm.keys.coding import (
    UNSEEN,
    ExportConfig,
    PredictConfig,
    PushConfig,
    ReviewConfig,
    SearchConfig,
    ServeConfig,
    TriageConfig,
    WandbReportConfig,
    WandbSyncConfig,
    WandbWorkspaceConfig,
)
from kjcm.keys.key import MISSING, key, seed_key
from kjcm.keys.survey import (
    AugmentConfig,
    ClassificationConfig,
    DataConfig,
    KwcsConfig,
    PretrainingConfig,
    SyntheticConfig,
    TableConfig,
)
from kjcm.keys.training import (
    BaselineSeeds,
    EncoderConfig,
    EngineConfig,
    EnsembleConfig,
    LinearConfig,
    LogFilesConfig,
    MlflowConfig,
    ModelConfig,
    NearestConfig,
    ParamGroupsConfig,
    PresetConfig,
    Seeds,
    SweepConfig,
    TokenizerConfig,
    TrackioConfig,
    TrainerConfig,
    WandbConfig,
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
    """Measure a baseline on the same rows; write a run folder without a model ([run-folder.md](run-folder.md#baselines)).

    `kind=svm` is scikit-learn's LinearSVC (dual solver), one group against the rest, on TF-IDF of the character n-grams
    within words (logarithmic term frequency). It learns from the training rows and the augmentation. `kind=majority`
    gives every row the largest group of the training rows (without augmentation), then the next largest, and so on.
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
class AuditConfig:
    """Find labels that are probably wrong, from the out-of-fold probabilities of a cross-validation ([audit.md](audit.md)).

    Each row's probabilities are those of the run that tests it. `output` needs `pip install 'kjcm[audit]'`.
    """

    runs: str | None = key(
        "Folder of the folds' runs: those in it, and up to two folders deep. They differ only in `data.fold`.",
        path=True,
    )
    folds: list[str] = key("Run folders, instead of `runs`. `kjcm audit A B` means `folds=[A,B]`.")
    output: str | None = key(
        "File for `kjcm review` to write: the rows with suspected labels. Same kinds as in `kjcm predict`.", path=True
    )
    out_of_fold: str | None = key(
        "Parquet file to write: every row with its out-of-fold codes and the probability of each class.", path=True
    )
    most: int | None = key("Greatest number of rows of `output`, the most suspicious first; null: all.", least=1)
    rule: str = key(
        "Which labels are suspected: `filter_by` of cleanlab's find_label_issues.",
        choices=("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"),
    )
    score: str = key(
        "Label quality, which sorts the rows: probability of the given code, or its margin to the likeliest other code.",
        choices=("self_confidence", "normalized_margin"),
    )
    incomplete: bool = key("`true`: audit also if folds have no run; their rows are counted and left out.")
    preset: PresetConfig = MISSING
    trainer: TrainerConfig = MISSING
    batch_size: int = key("Texts that an encoder scores at a time.", least=1, most=10**6)
    overwrite: bool = key("`true`: replace the files.")


@dataclass
class Reporting:
    """What `report` and `reproduce` have in common."""

    out: str = key("Folder to write; a report of the same study in it is replaced.", path=True)
    texts: bool = key(
        "`true`: show respondents' answers in the examples and in disagreements.csv; the twin's always show."
    )
    review: str | None = key("disagreements.csv with its verdicts filled in; null: the one in `out`.", path=True)
    only: list[str] = key("Tables and figures to build: names of files in `experiments/`; `[]`: all.")
    replicates: int = key("Bootstrap resamples of the test rows; 0: no intervals.", least=0, most=10**6)
    bootstrap_seed: int = seed_key("Seed of the resamples.")


@dataclass
class ReportConfig(Reporting):
    """Build the paper's tables, figures and one page from finished runs ([report.md](report.md))."""

    runs: str = key("Folder of all runs.", path=True)
    like: str | None = key("Run of the setting to report, if `runs` has several settings of K-JCM.", path=True)
    overwrite: bool = key("`true`: replace the report of another study in `out`.")


@dataclass
class RunsConfig:
    """Show all runs as a table: state, overrides, metrics, folder, and why some failed ([sweeps.md](sweeps.md)).

    Nothing is trained, and only `out` is written.
    """

    runs: str = key("Folder of all runs: those in it, and up to two folders deep.", path=True)
    where: Any = key(
        "Show only runs with these values of config keys, metrics, `state` or `name`; a list: any of them."
    )
    group: str | None = key(
        "`seed`: one line for the runs that differ only in their seeds: mean, SD (n - 1), n; `fold`: in `data.fold` or seeds.",
        choices=("seed", "fold"),
    )  # fmt: skip
    sort: str | None = key("Metric (the best first), key or heading that sorts the table, as `lr`; null: the folder.")
    columns: list[str] = key("Further config keys, metrics or headings to show.")
    out: str | None = key("CSV file to write, with all columns.", path=True)
    overwrite: bool = key("`true`: replace the file.")


@dataclass
class DiffConfig:
    """Compare finished runs: config, metrics with tests, groups, and rows whose code changed ([compare.md](compare.md))."""

    compare: list[str] = key(
        "Run folders, folders that contain runs, or folders of sweeps. `kjcm diff A B` means `compare=[A,B]`."
    )
    out: str | None = key("Folder to write the page, its tables and the changed rows to.", path=True)
    texts: bool = key("`true`: write the texts of the changed rows; the twin's are always written.")
    replicates: int = key("Bootstrap resamples of the test rows; 0: no intervals.", least=0, most=10**6)
    bootstrap_seed: int = seed_key("Seed of the resamples.")
    overwrite: bool = key("`true`: replace the comparison in `out`.")


@dataclass
class ReproduceConfig(TrainConfig, Reporting):
    """Train the missing ones of the paper's models, then build the report ([report.md](report.md)).

    It sets `experiment`, `name`, `run_dir` and `evaluate` of each training. `seed` is the first of the seeds.
    `overwrite=true` retrains everything and replaces another study's report.
    """

    models: list[str] = key("Models to train: keys of `experiments/models.yaml`; `[all]`: all that the data allow.")
    repeats: int = key(
        "Trainings of each model, with the seeds `seed`, `seed` + 1, ...; baselines once.", least=1, most=1000
    )


@dataclass
class TuneConfig(TrainConfig, SearchConfig):
    """Search for hyperparameters with Optuna; each trial is an ordinary run, judged by validation rows ([tune.md](tune.md)).

    It sets `name`, `run_dir`, `evaluate`, `svm_check` and `overwrite` of each trial.
    Of `sweep` it reads only `sweep.retry`. Install it with `pip install 'kjcm[tune]'`.
    """


@dataclass
class PretrainConfig(TrainConfig):
    """Train an encoder to predict hidden tokens of texts, as a start for `kjcm train` ([pretraining.md](pretraining.md)).

    The survey's rows need no codes (`data.columns.code=null`). With codes, only the training rows of the split count.
    """

    pretraining: PretrainingConfig = MISSING


@dataclass
class DoctorConfig:
    """Report what will work on this machine: device, bf16, hub, tokenizers, W&B mode, versions."""

    tokenizer_path: str | None = key(
        "KoBERT's SentencePiece file, or its folder, to check; null: the hub's.", path=True
    )
    hub: bool = key("`false`: do not try to reach the hub.")


COMMANDS: dict[str, type] = {
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "baseline": BaselineConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "serve": ServeConfig,
    "triage": TriageConfig,
    "review": ReviewConfig,
    "export": ExportConfig,
    "push": PushConfig,
    "doctor": DoctorConfig,
    "report": ReportConfig,
    "runs": RunsConfig,
    "diff": DiffConfig,
    "audit": AuditConfig,
    "reproduce": ReproduceConfig,
    "tune": TuneConfig,
    "pretrain": PretrainConfig,
    "wandb_workspace": WandbWorkspaceConfig,
    "wandb_report": WandbReportConfig,
    "wandb_sync": WandbSyncConfig,
}
LOGGERS: dict[str, type] = {
    "csv": LogFilesConfig, "tensorboard": LogFilesConfig, "mlflow": MlflowConfig, "trackio": TrackioConfig,
    "wandb": WandbConfig,
}  # fmt: skip
GROUPS: dict[str, dict[str, type]] = {
    "data": {"synthetic": SyntheticConfig, "kwcs": KwcsConfig, "table": TableConfig},
    "augment": {"any": AugmentConfig},
    "classification": {"any": ClassificationConfig},
    "tokenizer": {"any": TokenizerConfig},
    "model": {"any": EncoderConfig, "linear": LinearConfig, "nearest": NearestConfig, "ensemble": EnsembleConfig},
    "engine": {"any": EngineConfig},
    "trainer": {"any": TrainerConfig},
    "logger": LOGGERS,
    "preset": {"any": PresetConfig},
}
ENTRIES = ("logger",)  # groups whose files each add an entry, named as the file, to one mapping


def lead_of(group: str, choice: str) -> str:
    """Return what stands before the keys that a group's choice has."""
    return f"{group}.{choice}." if group in ENTRIES else f"{group}."
