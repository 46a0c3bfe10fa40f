"""KSCO-6 to KSCO-7: what converts, what waits, and which tables are refused."""

import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import Classification
from kjcm.ksco.correspondence import Correspondence
from kjcm.ksco.crosswalk import crosswalk_of, partners_at, resolutions_of, resolved_by_run

PAIRS = [
    ("1110", "1110"),  # stays
    ("1318", "1312"), ("1319", "1312"),  # merged
    ("2229", "2221"), ("2229", "2222"),  # split within one minor group
    ("2239", "2221"), ("2239", "2231"),  # split between two
    ("A010", "1001"),  # a soldier, written in digits
]  # fmt: skip


@pytest.fixture
def crosswalk(ksco: Classification) -> Correspondence:
    return crosswalk_of(pd.DataFrame(PAIRS, columns=["ksco6", "ksco7"]), ksco, "table.csv")


@pytest.mark.parametrize(
    ("ksco6", "level", "partners"),
    [
        ("1110", 4, ("1110",)),
        ("1110", 3, ("111",)),
        ("1318", 4, ("1312",)),
        ("1319", 4, ("1312",)),
        ("2229", 4, ("2221", "2222")),
        ("2229", 3, ("222",)),  # the partners agree at three digits
        ("2239", 3, ("222", "223")),
        ("2239", 2, ("22",)),
        ("131", 3, ("131",)),  # shorter: all that begin with it
        ("22", 3, ("222", "223")),
        ("11101", 3, ("111",)),  # longer: its longest beginning
        ("0111", 3, ("111",)),  # padded with a zero
        ("A010", 3, ("A01",)),
        ("1001", 3, ("A01",)),  # A01 in digits, then all that begin with it
        ("9999", 3, ()),
        ("", 3, ()),
    ],
)
def test_partners(
    crosswalk: Correspondence, ksco: Classification, ksco6: str, level: int, partners: tuple[str, ...]
) -> None:
    assert partners_at(crosswalk, ksco6, ksco, level) == partners


def test_numbers_and_repeated_rows_are_one_pair(ksco: Classification) -> None:
    table = pd.DataFrame({"ksco6": [1110.0, 1110, "1110"], "ksco7": ["1110", 1110, 1110.0]}, dtype=object)
    assert crosswalk_of(table, ksco, "t").pairs == {"1110": {"1110": 1.0}}


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({"ksco6": ["1110"], "new": ["1110"]}, "table.csv: has no column 'ksco7'; its columns are 'ksco6', 'new'"),
        ({"ksco6": ["1110", "1"], "ksco7": ["8888", "7777"]}, "table.csv, column 'ksco7': none of its codes is"),
        ({"ksco6": ["1110", "1"], "ksco7": ["1110", "7777"]}, "table.csv, column 'ksco7': '7777' are not"),
        ({"ksco6": ["2239", "2239"], "ksco7": ["2221", ""]}, "table.csv: 1 row with a code in only one of 'ksco6' and"),
        ({"ksco6": [], "ksco7": []}, "table.csv: no row has both a code 'ksco6' and a code 'ksco7'"),
    ],
)
def test_refuses_tables_that_lead_nowhere(ksco: Classification, table: dict[str, list[str]], shown: str) -> None:
    with pytest.raises(KjcmError, match=shown):
        crosswalk_of(pd.DataFrame(table), ksco, "table.csv")


def test_resolutions_leave_out_rows_not_yet_filled_in(ksco: Classification) -> None:
    table = pd.DataFrame({"id": [1, 2.0, "x"], "ksco7": ["0111", None, "1001"]}, dtype=object)
    assert resolutions_of(table, ksco, "r.csv") == {"1": "111", "x": "A01"}


def test_resolutions_are_also_what_recode_writes(ksco: Classification) -> None:
    table = pd.DataFrame({"id": ["1", "2", "3"], "ksco7": ["111", "", ""], "recoded": ["112", "222", ""]})
    assert resolutions_of(table, ksco, "r.csv") == {"1": "111", "2": "222"}
    assert resolutions_of(table.rename(columns={"ksco7": "ksco7 "}), ksco, "r.csv") == {"1": "111", "2": "222"}
    assert resolutions_of(table.drop(columns="ksco7"), ksco, "r.csv") == {"1": "112", "2": "222"}
    assert (resolved_by_run(table, "r.csv"), resolved_by_run(table.drop(columns="recoded"), "r.csv")) == (1, 0)


def test_a_crosswalk_may_be_a_correspondence_with_weights(ksco: Classification) -> None:
    table = pd.DataFrame({"from": ["2239", "2239"], "to": ["2221", "2231"], "weight": [3, 1]})
    found = crosswalk_of(table, ksco, "t")
    assert found.pairs == {"2239": {"2221": 0.75, "2231": 0.25}}
    assert partners_at(found, "2239", ksco, 3) == ("222", "223")


@pytest.mark.parametrize(
    ("ids", "codes", "shown"),
    [
        (["1"], ["7777"], "r.csv, column 'ksco7', id '1': '7777' is no code of KSCO-7"),
        (["1", "1"], ["111", "112"], "r.csv, column 'id': '1' occurs more than once"),
    ],
)
def test_refuses_unusable_resolutions(ksco: Classification, ids: list[str], codes: list[str], shown: str) -> None:
    with pytest.raises(KjcmError, match=shown):
        resolutions_of(pd.DataFrame({"id": ids, "ksco7": codes}), ksco, "r.csv")
