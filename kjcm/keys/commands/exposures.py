"""The keys of `kjcm expose`, `kjcm tabulate` and `kjcm order`, which read coded files."""

from dataclasses import dataclass, field

from kjcm.keys.key import key, seed_key
from kjcm.keys.survey import FileOptions

CODED = "File that `kjcm predict` wrote, also after `kjcm review`; or any table with `columns.code`."
SETTLED = (
    "Codes with probability 1: reviewers' codes (`reviewed`), also the model's accepted codes (`decided`), or `none`."
)


@dataclass
class ExposeColumns:
    """Columns of the files."""

    code: str | None = key("Column of codes to use instead of those of `kjcm predict`; null: none.")
    compare: str | None = key("Column of codes in the file `compare`; null: the codes of `kjcm predict`.")
    id: str | None = key("Column of unique ids: kept with `shape=long`, and matches the rows of `compare`.")


@dataclass
class ExposeConfig(FileOptions):
    """Add exposures by a job-exposure matrix to a coded file ([exposure.md](exposure.md)).

    Each agent gets the exposure of the most likely code, the expected exposure over all codes, and imputed draws. With
    `compare` the output is the agreement of two codings in exposure.
    """

    input: str = key(CODED, path=True)
    jem: str = key("Matrix: a table with the columns code, agent, level and perhaps prevalence.", path=True)
    output: str = key("File to write: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.", path=True)
    compare: str | None = key("File of another coding of the same rows; null: write exposures.", path=True)
    columns: ExposeColumns = field(default_factory=ExposeColumns)
    settled: str = key(SETTLED, choices=("reviewed", "decided", "none"))
    categories: list[str] | None = key(
        "Levels in words, lowest first, as `[none,low,high]`, which count 0, 1, 2; null: levels are numbers."
    )
    absent: str = key(
        "Code without a row of its own or of a parent: no exposure data (`missing`), or level 0 (`unexposed`).",
        choices=("missing", "unexposed"),
    )
    shape: str = key("`wide`: all columns, and new ones for each agent; `long`: a line for each row and agent.",
                     choices=("wide", "long"))  # fmt: skip
    draws: int = key("Imputed exposures of each row and agent.", least=0, most=1000)
    seed: int = seed_key("Seed of the draws, and of the bootstrap with `compare`.")
    replicates: int = key("Bootstrap resamples of the intervals with `compare`.", least=0, most=10**5)
    overwrite: bool = key("`true`: replace the output.")


@dataclass
class TabulateColumns:
    """Columns of the file."""

    code: str | None = key("Column of codes to use instead of those of `kjcm predict`; null: none.")


@dataclass
class TabulateConfig(FileOptions):
    """Write the shares of occupations in a coded file, from top-1 codes and from probabilities ([tabulate.md](tabulate.md))."""

    input: str = key(CODED, path=True)
    output: str = key("File to write: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.", path=True)
    by: str | None = key("Column of groups, such as sex or year, each with shares of its own; null: all rows together.")
    weight: str | None = key("Column of the survey weight; null: every row counts once.")
    level: int | None = key("Characters of the codes in the table; null: the file's codes.", least=1, most=10)
    columns: TabulateColumns = field(default_factory=TabulateColumns)
    settled: str = key(SETTLED, choices=("reviewed", "decided", "none"))
    titles: str | None = key("Titles of the codes: `ksco7`, or a file of code and title; null: none.")
    confidence: float = key("Confidence of the intervals.", least=0.5, most=0.9999)
    overwrite: bool = key("`true`: replace the output.")


@dataclass
class OrderConfig:
    """Number the rows of a coded file that reviewers should decide first ([review.md](review.md#which-rows-to-review-first))."""

    input: str = key("File that `kjcm predict` wrote, with INPUT.json next to it.", path=True)
    output: str = key(
        "File to write, with the column review_order: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.", path=True
    )
    rows: int = key("Rows to order, each with another text; the others have an empty cell.", least=1, most=5000)
    decisions: list[str] = key("Decisions of the model whose rows are ordered, as for `kjcm review`.")
    reviewed: str | None = key(
        "Reviewed file (`kjcm review export=FILE`), whose decided texts need no second decision; null: none.", path=True
    )
    seed: int = seed_key("Seed of the random sample that is ordered if there are more than 5,000 different texts.")
    overwrite: bool = key("`true`: replace the output.")
