"""The keys of `kjcm classification import` and `kjcm recode`."""

from dataclasses import dataclass, field
from typing import Any

from kjcm.keys.key import key
from kjcm.keys.survey import FileOptions


@dataclass
class ClassificationImportConfig:
    """Read the workbook of a classification or correspondence, check it, and write it as TSV ([data.md](data.md#ksco-8)).

    `kjcm classification import FILE` means `input=FILE`. A classification becomes code, level, title, title_en, parent and
    description; a correspondence becomes from, to, from_title and to_title.
    """

    input: str = key("The statistics office's workbook (.xlsx), or a .csv or .tsv file.", path=True)
    out: str = key("TSV file to write.", path=True)
    columns: list[str] = key(
        "Headers of a correspondence's two columns of codes, `from` first, or of a classification's one; `[]`: as found."
    )
    sheet: str | None = key("Worksheet to read; null: the one with most coded rows.")
    encoding: str | None = key("Encoding of a CSV or TSV file, as `euc-kr`; null: UTF-8, else CP949.")
    overwrite: bool = key("`true`: replace the file.")


@dataclass
class RecodeColumns:
    """Role -> column of a file to recode; '@run' stands for the run's own column, null for none."""

    code: str = key("Column of the code to convert.")
    recoded: str | None = key(
        "Column of the other classification's code, for rows coded both ways; empty elsewhere; null: none."
    )
    workplace: str | None = key("Column of the workplace; `@run`: named as in the run's data; null: none.")
    position: str | None = key("Column of the position; `@run`: named as in the run's data; null: none.")
    task: str | None = key("Column of the task; `@run`: named as in the run's data; null: none.")
    manages: str | None = key("Column that says whether a person manages others, for `triage.managers=column`.")


@dataclass
class RecodeRules:
    """When the model decides among a correspondence's candidates ([recode.md](recode.md))."""

    target_error: float | None = key(
        "Share of the accepted rows that may be wrong; needs `columns.recoded`; null: the fixed threshold.",
        above=0, most=0.99,
    )  # fmt: skip
    threshold: float = key(
        "Without a target: least probability of an accepted code among the candidates.", least=0, most=1
    )
    confidence: float = key("Confidence of the promise for `triage.target_error`.", least=0.5, most=0.9999)
    alpha: float = key("Show a list if its codes leave out at most this probability; no promise.", above=0, most=0.99)
    k: int = key("Most codes of a list.", least=1, most=20)
    managers: str = key(
        "Who may be coded into major group 1: everybody, or people whose words or column say that they manage.",
        choices=("none", "words", "column"),
    )
    least_probability: float = key(
        "Rows stay undecided if the model gives all candidates together less probability.", least=0, most=1
    )


@dataclass
class RecodeConfig(FileOptions):
    """Convert a file's codes to another classification by a correspondence; every row stays ([recode.md](recode.md)).

    If a code has several candidates, the run accepts one, lists some for a reviewer, or decides none. Without a run the row
    stays undecided and lists all candidates with weights. `from` is short for `from_`.
    """

    input: str = key("File to recode, of any kind that `kjcm predict` reads.", path=True)
    output: str = key("File to write: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.", path=True)
    from_: str = key(
        "Classification of the given codes, as `ksco7`; names that begin with ksco allow KSCO's spellings."
    )
    to: str = key("Classification to convert to, as `ksco8`; a run must predict its codes.")
    correspondence: Any = key(
        "File with columns from, to and optionally weight, or a list of files to chain, in order."
    )
    run: str | None = key(
        "Finished run of the new classification that decides among candidates; null: none.", path=True
    )
    columns: RecodeColumns = field(default_factory=RecodeColumns)
    level: int | None = key("Characters of the new codes; null: as in the correspondence.", least=1, most=10)
    weights: bool = key("`true`: rows with several candidates keep all of them with weights instead of one code.")
    triage: RecodeRules = field(default_factory=RecodeRules)
    accelerator: str = key("Accelerator.", choices=("auto", "cpu", "gpu"))
    precision: str = key("Precision of the coding, as in `kjcm predict`.", choices=("auto", "32-true", "bf16", "int8"))
    overwrite: bool = key("`true`: replace the output.")
