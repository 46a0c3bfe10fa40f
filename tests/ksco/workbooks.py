"""Workbooks of the shapes that statistics offices publish, with invented codes and titles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openpyxl import Workbook

MAJORS = "123456789A"


def tree() -> list[str]:
    """Return codes of five levels, sorted: 10 major groups with 2, 4, 8 and 8 groups beneath them."""
    codes = []
    for major in MAJORS:
        for sub in "12":
            for minor in "12":
                for unit in "10", "20":
                    whole = f"{major}{sub}{minor}{unit}"
                    codes += [whole[:end] for end in range(1, 6)]
    return sorted({*codes})


def title(code: str) -> str:
    return "".join("영일이삼사오육칠팔구"[int(one)] if one.isdigit() else "군" for one in code) + " 종사자"


def description(code: str) -> str:
    return f"{title(code)}는 여러 사람이 쓰는 물건을 만들고 고치며 그 밖의 일을 한다. " * 2


def save(path: Path, sheets: dict[str, Sequence[Sequence[Any]]], merged: Sequence[str] = ()) -> Path:
    """Write worksheets; the ranges of `merged` are merged in the last one."""
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    for one in merged:
        sheet.merge_cells(one)
    book.save(path)
    return path


def number(code: str) -> Any:
    """Return a code as a spreadsheet stores what looks like a number."""
    return int(code) if code.isdigit() else code
