"""The keys of the commands that compare finished runs: report, reproduce, runs, diff, audit."""

from dataclasses import dataclass
from typing import Any

from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.key import MISSING, key, seed_key
from kjcm.keys.training import PresetConfig, TrainerConfig


@dataclass
class Reporting:
    """Keys that `report` and `reproduce` share."""

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
