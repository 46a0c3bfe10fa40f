"""The keys of `kjcm classification import`."""

from dataclasses import dataclass

from kjcm.keys.key import key


@dataclass
class ClassificationImportConfig:
    """Read the workbook of a classification or correspondence, check it, and write it as TSV ([data.md](data.md#ksco-8)).

    `kjcm classification import FILE` means `input=FILE`. A classification becomes code, level, title, title_en, parent and
    description; a correspondence becomes from, to, from_title and to_title.
    """

    input: str = key("The statistics office's workbook (.xlsx), or a .csv or .tsv file.", path=True)
    out: str = key("TSV file to write.", path=True)
    columns: list[str] = key(
        "Headers of a correspondence's two columns of codes, `from` first; `[]`: the left and the right one."
    )
    sheet: str | None = key("Worksheet to read; null: the one with most coded rows.")
    encoding: str | None = key("Encoding of a CSV or TSV file, as `euc-kr`; null: UTF-8, else CP949.")
    overwrite: bool = key("`true`: replace the file.")
