"""KSCO-7 as a frozen object, KSCO-8 from a file, and a class for any other classification that uses codes verbatim.

Only this module knows how a KSCO code is built.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from kjcm.errors import ConfigError, KjcmError, require_columns, some
from kjcm.read.cells import code_texts, tidy, without_decimals
from kjcm.read.table import read_table

MANAGERS = "1"  # the major group of managers in KSCO
KSCO8 = "KSCO-8"  # the name in reports of the classification whose codes come from a file
UNIT_GROUPS = 4  # the finest level of the package's own KSCO-7
EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Classification:
    """Codes with their titles; this class uses the data's codes verbatim (`classification=from_data`).

    Attributes:
        name: the classification's name in reports.
        titles: code -> title in the classification's own language.
        english: code -> English title, if it has one.
        descriptions: code -> description, if it has one.
        parents: code -> parent code, or None at the top.
        levels: code -> level, 1 at the top.
    """

    name: str
    titles: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    english: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    descriptions: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    parents: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    levels: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def codes(self, level: int) -> tuple[str, ...]:
        """Return the codes of a level, sorted."""
        return tuple(sorted(code for code, own in self.levels.items() if own == level))

    def index(self, level: int) -> dict[str, int]:
        """Return code -> position among the sorted codes of a level."""
        return {code: position for position, code in enumerate(self.codes(level))}

    def title(self, code: str, language: str = "own") -> str:
        """Return the title of `code`, '' if it has none; language: 'own' or 'en'."""
        return (self.english if language == "en" else self.titles).get(code, "")

    def parent(self, code: str) -> str | None:
        """Return the code above `code`, None at the top."""
        return self.parents.get(code)

    def ancestors(self, code: str) -> tuple[str, ...]:
        """Return the codes above `code`, the top first."""
        above: list[str] = []
        while (code := self.parent(code) or "") != "":
            above.insert(0, code)
        return tuple(above)

    def top(self, code: str) -> str:
        """Return the major group of `code`, its highest ancestor; the code itself if it has no ancestor."""
        return next(iter(self.ancestors(code)), code)

    @cached_property
    def _children(self) -> Mapping[str, list[str]]:
        children: dict[str, list[str]] = {}
        for code in sorted(self.parents):
            if (parent := self.parents[code]) is not None:
                children.setdefault(parent, []).append(code)
        return children

    def below(self, code: str) -> tuple[str, ...]:
        """Return `code` and every code beneath it, sorted."""
        found = [code]
        for one in found:
            found.extend(self._children.get(one, ()))
        return tuple(sorted(found))

    def resolve(self, text: str) -> str | None:
        """Return the code that `text` means, None for an empty text; this class accepts any text as a code."""
        return tidy(text) or None

    def require_level(self, level: int | None) -> None:
        """Raise ConfigError if `level` has no codes; this class accepts any level, and None for uncut codes."""

    def require_zeros(self, codes: Iterable[str], level: int | None, place: str) -> None:
        """Raise KjcmError if codes lost leading zeros, so that different groups would get the same cut code: 0110 and 1101.

        Zeros are lost if whole numbers differ in length and none starts with a zero. Codes shorter than `level` do not count.
        """
        digits = {code: code.removesuffix(".0") for code in codes}  # a column with empty cells has 110.0
        digits = {code: number for code, number in digits.items() if number.isascii() and number.isdigit()}
        numbers = sorted(digits, key=lambda code: (len(digits[code]), code))
        cut = [code for code in numbers if level is not None and len(code) >= level]
        few, many = (len(digits[code]) for code in (cut[0], cut[-1])) if cut else (0, 0)
        if few < many and not any(code.startswith("0") for code in numbers):
            raise KjcmError(
                f"{place}: codes of {few} and {many} digits ({some([cut[0], cut[-1]])}) are cut to {level} "
                "alike. Numbers lose leading zeros: store codes as text of one length, as '0110'. Leave coarser codes out."
            )

    def at_level(self, code: str, level: int | None) -> str | None:
        """Return `code` cut to `level` characters (None: uncut), None if `code` is shorter."""
        return code if level is None else code[:level] if len(code) >= level else None

    def below_level(self, code: str, level: int | None) -> str:
        """Return `code` cut to one level below `level`, '' if it is not as fine as that."""
        return "" if level is None else self.at_level(code, level + 1) or ""


@dataclass(frozen=True)
class Ksco(Classification):
    """A Korean Standard Classification of Occupations (the 7th or the 8th), which accepts only its own codes."""

    def require_zeros(self, codes: Iterable[str], level: int | None, place: str) -> None:
        """Accept codes of any length: no code of KSCO begins with a zero."""

    def resolve(self, text: str) -> str | None:
        """Return the KSCO code that `text` means (see `spellings`), None if it means none."""
        for code in spellings(text):
            if code in self.levels:
                return code
            # A five-digit code means its unit group, unless a classification file adds five-digit codes.
            if len(code) == UNIT_GROUPS + 1 and code[:-1] in self.levels and not self.codes(UNIT_GROUPS + 1):
                return code[:-1]
        return None

    def require_level(self, level: int | None) -> None:
        """Raise ConfigError if there are no codes at `level`."""
        if level not in self.levels.values():
            levels = sorted(set(self.levels.values()))
            raise ConfigError(
                f"data.level={level}: {self.name} has the levels {levels[0]} to {levels[-1]} (the paper: 3)."
            )

    def at_level(self, code: str, level: int | None) -> str | None:
        """Return the ancestor of `code` at `level`, None if `code` is above that level or unknown."""
        if level is None:
            return code
        at: str | None = code
        while at is not None and self.levels.get(at, 0) > level:
            at = self.parents[at]
        return at if at is not None and self.levels.get(at) == level else None


def prefixes_of(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the prefixes of each class's code, shortest first, as its groups in a classification without parents.

    Prefixes are groups only if all codes have one length, consist of Latin letters and digits, and contain a digit.
    """
    like = len({len(code) for code in classes}) == 1 and all(
        code.isascii() and code.isalnum() and any(map(str.isdigit, code)) for code in classes
    )
    return [tuple(code[:end] for end in range(1, len(code))) if like else () for code in classes]


def spellings(text: str) -> tuple[str, ...]:
    """Return the codes that a KSCO code in a file may mean, the literal one first.

    Public Korean panel data pads minor groups with a zero (`0111`), and writes soldiers in digits (`1001` for A01).
    """
    text = without_decimals(tidy(text)).upper()
    others = (text[1:] if text.startswith("0") else "", f"A{text[2:]}" if text.startswith("10") else "")
    return (text, *filter(None, others))


def usual_spelling(text: str) -> str:
    """Return a KSCO code as KSCO writes it, also one that a certain KSCO lacks: 111 for 0111, A01 for 1001."""
    return spellings(text)[-1]


def load_classification(name: str, path: str | Path | None = None) -> Classification:
    """Return the classification `name` ('ksco7', 'ksco8' or 'from_data'), with the titles and descriptions of `path` added.

    KSCO-8 has no codes but those of `path`. Without a path it is a classification that uses codes verbatim.

    Raises:
        ConfigError: unknown name, or a KSCO file with codes that KSCO-7 does not have.
        KjcmError: the file cannot be read, or is no KSCO file.
    """
    if name == "from_data":
        return read_classification(path) if path else Classification("from_data")
    if name == "ksco8":
        return _read_ksco(KSCO8, path) if path else Classification(KSCO8)
    if name != "ksco7":
        raise ConfigError(f"classification.name={name!r} is not known: use 'ksco7', 'ksco8' or 'from_data'.")
    ksco = _embedded()
    if path is None:
        return ksco
    given = read_classification(path, above=ksco.levels)
    units = set(ksco.codes(UNIT_GROUPS))
    foreign = [code for code in given.levels if code not in ksco.levels and code[:UNIT_GROUPS] not in units]
    if foreign:
        raise ConfigError(
            f"{path}, column 'code': {some(foreign)} are under no group of KSCO-7. "
            "Give a file of KSCO-7, or use classification=from_data for another classification."
        )
    clash = [
        code for code in given.levels if code in ksco.levels and (given.levels[code], given.parents[code]) != (
            ksco.levels[code], ksco.parents[code])
    ]  # fmt: skip
    if clash:
        raise ConfigError(f"{path}: level or parent of {some(clash)} differ from KSCO-7's. Correct these rows.")
    return Ksco(
        ksco.name,
        MappingProxyType({**given.titles, **ksco.titles}),
        ksco.english,
        given.descriptions,
        MappingProxyType({**given.parents, **ksco.parents}),
        MappingProxyType({**given.levels, **ksco.levels}),
    )


def _read_ksco(name: str, path: str | Path) -> Ksco:
    """Read a whole KSCO from a file.

    Raises:
        KjcmError: the file cannot be read, or a code's level is not its length, or its parent not the code without its
            last character.
    """
    given = read_classification(path)
    wrong = [
        code for code, parent in given.parents.items()
        if given.levels[code] != len(code) or parent != (code[:-1] or None) or (parent and parent not in given.levels)
    ]  # fmt: skip
    if wrong or not given.levels:
        raise KjcmError(
            f"{path}, column 'code': {some(sorted(wrong))} are no codes of {name}, whose levels are 1 to 5 characters, each "
            "with its group above. Make the file with `kjcm classification import`."
        )
    return Ksco(name, given.titles, given.english, given.descriptions, given.parents, given.levels)


def read_classification(path: str | Path, above: Iterable[str] = ()) -> Classification:
    """Read a table of code, title (or title_ko) and, if present, title_en, level, parent, description (TSV, CSV or XLSX).

    A missing level is the code's length; a missing parent is the longest other code, of the file or of `above`, that the
    code begins with.

    Raises:
        KjcmError: no such file, a column or title missing, a code given twice.
    """
    table = read_table(path)
    table.columns = [tidy(str(name)).lower() for name in table.columns]
    title = "title_ko" if "title_ko" in table and "title" not in table else "title"
    require_columns(path, table.columns, ("code", title))
    table["code"] = list(map(tidy, code_texts(table["code"])))
    table = table[table["code"] != ""]
    twice = table["code"][table["code"].duplicated()]
    if len(twice):
        raise KjcmError(f"{path}, column 'code': {some(twice)} occur more than once. Keep one row per code.")
    known = set(table["code"])
    prefixes = known | set(above)

    def column(name: str) -> dict[str, str]:
        return dict(zip(table["code"], map(tidy, code_texts(table[name])), strict=True)) if name in table else {}

    # Programs that store a column with empty cells as numbers write 11.0 for 11.
    given_parents = {
        code: parent if parent in prefixes else without_decimals(parent) for code, parent in column("parent").items()
    }
    given_levels = {code: without_decimals(level) for code, level in column("level").items()}
    bad = [value for value in given_levels.values() if not value.isdigit()]
    if bad:
        raise KjcmError(f"{path}, column 'level': {some(bad)} are not whole numbers.")
    levels = {code: int(given_levels[code]) if given_levels else len(code) for code in sorted(known)}
    parents = {
        code: (given_parents.get(code) or None) if given_parents else _known_prefix(code[:-1], prefixes)
        for code in known
    }
    wrong = [code for code, parent in parents.items() if parent in levels and levels[parent] >= levels[code]]
    if wrong:
        raise KjcmError(f"{path}, column 'parent': the parents of {some(sorted(wrong))} are not at a higher level.")
    return Classification(
        Path(path).stem,
        titles=MappingProxyType({code: text for code, text in column(title).items() if text}),
        english=MappingProxyType({code: text for code, text in column("title_en").items() if text}),
        descriptions=MappingProxyType({code: text for code, text in column("description").items() if text}),
        parents=MappingProxyType(parents),
        levels=MappingProxyType(levels),
    )


def _known_prefix(code: str, known: set[str]) -> str | None:
    return next((code[:end] for end in range(len(code), 0, -1) if code[:end] in known), None)


def _embedded() -> Ksco:
    """Return KSCO-7 to four digits from the package's own file; a code's level is its length."""
    table = pd.read_csv(
        str(files("kjcm.ksco") / "ksco7.tsv"), sep="\t", dtype=str, keep_default_na=False, encoding="utf-8"
    )
    codes = table["code"].tolist()
    return Ksco(
        "KSCO-7",
        titles=MappingProxyType(dict(zip(codes, table["title_ko"], strict=True))),
        english=MappingProxyType({c: t for c, t in zip(codes, table["title_en"], strict=True) if t}),
        parents=MappingProxyType({code: code[:-1] or None for code in codes}),
        levels=MappingProxyType({code: len(code) for code in codes}),
    )
