"""The config keys that say how input files are read."""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kjcm.errors import ConfigError
from kjcm.keys.survey import FileOptions

TEXT, EXCEL, LABELLED = (".csv", ".tsv", ".txt"), (".xlsx",), (".sav", ".zsav", ".dta")
KINDS = {"encoding": (*TEXT, *LABELLED), "sheet": EXCEL, "header_row": (*TEXT, *EXCEL)}  # endings that a key is for


@dataclass(frozen=True)
class ReadOptions:
    """How input files are read.

    Attributes:
        encoding: of CSV, TSV, SPSS and Stata; None: as declared, else UTF-8, else CP949.
        sheet: name of an XLSX file's worksheet; None: the first visible one with cells.
        header_row: row of CSV, TSV and XLSX with the column names, from 1; None: the first row with cells.
        keys: prefix of these names in the command's keys, such as 'data.'; None: the command has no such keys.
        wanted: names of columns that the header should have, to find the header by.
    """

    encoding: str | None = None
    sheet: str | None = None
    header_row: int | None = None
    keys: str | None = None
    wanted: tuple[str, ...] = ()

    def advice(self, name: str, value: object) -> str:
        """Return ' Add KEY=VALUE.', '' if the command has no such key."""
        return "" if self.keys is None else f" Add {self.keys}{name}={value}."


PLAIN = ReadOptions()


def read_options(
    given: FileOptions, keys: str, files: Iterable[str | Path | None], columns: Mapping[str, str | None]
) -> ReadOptions:
    """Return the options for files with these columns (role -> name).

    Raises:
        ConfigError: the encoding is unknown, or a key fits none of the files' kinds.
    """
    options = ReadOptions(
        **{name: getattr(given, name) for name in KINDS}, keys=keys, wanted=tuple(filter(None, columns.values()))
    )
    suffixes = {Path(file).suffix.lower() for file in files if file}
    for name, kinds in KINDS.items():
        value = getattr(options, name)
        if value is not None and suffixes.isdisjoint(kinds):
            raise ConfigError(
                f"{keys}{name}={value}: is for {', '.join(kinds)} files, and there is none. Leave it out."
            )
    if options.encoding is not None:
        _require_encoding(options.encoding, f"{keys}encoding")
    return options


def _require_encoding(name: str, key: str) -> None:
    try:
        "".encode(codecs.lookup(name).name)  # refuses codecs that do not turn bytes into text, such as hex
    except (LookupError, UnicodeError, ValueError):
        raise ConfigError(
            f"{key}={name}: no encoding has this name. Use one that Python knows, as utf-8, cp949, euc-kr, shift_jis or "
            "latin-1."
        ) from None
