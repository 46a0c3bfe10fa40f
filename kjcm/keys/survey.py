"""The keys of the groups from which the cohort is built."""

from dataclasses import dataclass, field
from typing import Any

from kjcm.keys.key import key, seed_key


@dataclass
class Columns:
    """Role -> column name in the files; null where there is no such column."""

    id: str | None = key("Column of the row id; null: a row is named by its content.")
    workplace: str | None = key("Column of the workplace.")
    position: str | None = key("Column of the position.")
    task: str | None = key("Column of the task.")
    code: str | None = key("Column of the occupation code.")
    cluster: str | None = key("Column of the sampling cluster; all rows of a cluster are on one side of the split.")
    weight: str | None = key("Column of the survey weight, for survey-weighted metrics.")
    manages: str | None = key(
        "Column that says whether a person manages others: yes or no, 1 or 0, 예 or 아니오, or empty."
    )
    covariates: dict[str, list[str]] = key(
        "Columns of side variables for the model, by kind: `category` and `number` ([data.md](data.md#covariates)).",
        legacy={"category": [], "number": []},
    )

    @property
    def roles(self) -> dict[str, str | None]:
        """Return role -> column name, without covariates."""
        return {role: name for role, name in vars(self).items() if role != "covariates"}


@dataclass
class FileOptions:
    """How input files are read."""

    encoding: str | None = key(
        "Encoding of CSV, TSV, SPSS and Stata files, as `euc-kr`; null: as declared, else UTF-8, else CP949.",
        legacy=None,
    )
    sheet: str | None = key("Worksheet of an XLSX file; null: the first visible one with cells.", legacy=None)
    header_row: int | None = key(
        "Row of CSV, TSV and XLSX files with the column names; null: the first row with cells.",
        least=1, most=10**6, legacy=None,
    )  # fmt: skip


@dataclass
class DataConfig:
    """The survey's rows, and how they become a cohort ([data.md](data.md))."""

    source: str = key("Kind of survey; the group sets it.", choices=("synthetic", "kwcs", "table", "titles"))
    columns: Columns = field(default_factory=Columns)
    level: int | None = key(
        "Digits of the codes to predict; null: whole codes, with `classification=from_data`.", least=1, most=10
    )
    classes: str = key(
        "Groups to predict: those with training rows, or `all` of the classification at `data.level`, which then need titles.",
        choices=("seen", "all"), legacy="seen",
    )  # fmt: skip
    cutoff: int = key(
        "Groups of this many rows or fewer leave the cohort; the `cutoff` group sets it.", least=0, most=10**9
    )
    higher_cutoff: int = key(
        "Cutoff of `cutoff=higher`: 100; for the twin 100 x `data.scale`, at least 11.", identity="where"
    )
    split_seed: int = seed_key("Seed of the split.")
    train_share: float = key(
        "Share of the rows for training, rounded half up; unused with `data.folds`, `data.test_path` or `data.train_wave`.",
        above=0, most=1,
    )  # fmt: skip
    folds: int | None = key(
        "Folds of a cross-validation instead of `data.train_share`: `data.fold` is tested, the others train.",
        least=2, most=1000, legacy=None,
    )  # fmt: skip
    fold: int = key("Fold of `data.folds` to test, from 0.", least=0, most=999, legacy=0)
    group_similar: float | None = key(
        "Keep texts whose character n-grams have a cosine above this on one side of every split; null: do not.",
        above=0, below=1, legacy=None,
    )  # fmt: skip
    stratify: bool = key(
        "`true`: every side and fold of the split has nearly the same share of each group.", legacy=False
    )
    train_fraction: float = key("Share of the training rows to use (K-JCM-half: 0.5).", above=0, most=1)
    validation: float = key(
        "Share of the used training rows to hold out for early stopping, tuning and triage.", least=0, below=1
    )
    inner_folds: int | None = key(
        "Folds of the training rows; fold `data.inner_fold` is the validation rows, rows of `data.validation` are unused.",
        least=2, most=1000, legacy=None,
    )  # fmt: skip
    inner_fold: int = key("Fold of `data.inner_folds` to validate, from 0.", least=0, most=999, legacy=0)
    batch_size: int = key("Rows of a training step, over all devices together.", least=1, most=10**6)
    drop_invalid: bool = key("`true`: leave out unusable rows and count them, instead of stopping.")
    wording: str = key(
        "How the three answers become one text: with Korean particles after Hangul, or without.",
        choices=("korean", "plain"), legacy="korean",
    )  # fmt: skip
    manager_words: list[str] = key("Words in position or task that mark a manager, for `triage.managers=words`.")
    reviewed: str | None = key(
        "File of `kjcm review`: its rows join or correct the training rows ([review.md](review.md#training-on-reviewed-rows)).",
        identity="input",
    )


@dataclass
class SyntheticConfig(DataConfig):
    """The synthetic twin."""

    scale: float = key("Size of the twin; 1 is the paper's 100,743 rows.", above=0, most=1)
    twin_seed: int = seed_key("Seed of the twin's answers.")
    train_wave: int | None = key(
        "Train on all rows of this wave and test on the other; null: split both waves at random.", choices=(5, 6)
    )


@dataclass
class KwcsConfig(FileOptions, DataConfig):
    """Waves 5 and 6 of the Korean Working Conditions Survey."""

    wave5: str | None = key("File of wave 5, coded in KSCO-6.", identity="input")
    wave6: str | None = key("File of wave 6, coded in KSCO-7.", identity="input")
    crosswalk: str | None = key(
        "File with columns ksco6 and ksco7 (or from and to), one pair a row; needed with `data.wave5`.",
        identity="input",
    )
    resolutions: str | None = key(
        "File with columns id (of wave 5) and ksco7, or `kjcm recode`'s output, for KSCO-6 codes with several partners.",
        identity="input",
    )
    train_wave: int | None = key(
        "Train on all rows of this wave and test on the other; null: split both waves at random.", choices=(5, 6)
    )


@dataclass
class TableConfig(FileOptions, DataConfig):
    """Any table of texts and codes."""

    path: str | None = key("File to split, or to train on if `data.test_path` is given.", identity="input")
    test_path: str | None = key("File of test rows.", identity="input")
    reader: dict[str, Any] = key(
        "A function that reads the files instead of kjcm: `_target_` and its arguments ([extending.md](extending.md)).",
        legacy={},
    )


@dataclass
class TitlesConfig(DataConfig):
    """The titles and descriptions of the classification, and an index of job titles, in place of a survey's rows."""

    index: str | None = key("File of job titles; the group takes `classification.index`.", identity="input")


@dataclass
class AugmentConfig:
    """Texts of the classification that join the training rows; they never join the validation or test rows."""

    titles: bool = key("Add the titles of each group and of all codes beneath it.")
    descriptions: bool = key("Add the descriptions that `classification.path` supplies.")
    index: bool = key("Add the job titles of `classification.index` ([title-index.md](title-index.md)).", legacy=False)
    rows: dict[str, Any] = key("A function that makes further rows: `_target_` and its arguments.", legacy={})
    weight: float = key(
        "Weight of these rows in the training of encoders and linear models; survey rows have 1.",
        above=0, most=1000, legacy=1.0,
    )  # fmt: skip
    positions: float = key(
        "Weight of a further row for the position alone of each survey row; 0: no such rows; `model=nearest` ignores the weight.",
        least=0, most=1000, legacy=0.0,
    )  # fmt: skip


@dataclass
class PretrainingConfig:
    """The texts of `kjcm pretrain`, and how many of their tokens are hidden."""

    texts: str | None = key("Text file, or folder of .txt files, with a text in each line.", identity="input")
    survey: bool = key("`false`: learn only from `pretraining.texts`.")
    held_out: float = key("Share of the texts that measure the loss instead of being learnt.", least=0, below=1)
    masked: float = key("Share of a text's tokens to hide, at least one.", above=0, below=1)


@dataclass
class ClassificationConfig:
    """The classification of the codes."""

    name: str = key("Name of the classification; the group sets it.", choices=("ksco7", "ksco8", "from_data"))
    path: str | None = key(
        "TSV, CSV or XLSX file of code, title and optionally level, parent, description; `classification=ksco8` needs it.",
        identity="input",
    )
    index: str | None = key(
        "TSV, CSV or XLSX file of job titles: title, code and optionally source, weight ([title-index.md](title-index.md)).",
        identity="input", legacy=None,
    )  # fmt: skip
