"""Correspondences: weights that sum to 1, codes of other lengths, and chains."""

from pathlib import Path

import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.correspondence import Correspondence, candidates_of, read_correspondence, read_correspondences


def table(path: Path, text: str) -> str:
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return str(path)


def test_partners_of_codes_of_any_length() -> None:
    found = Correspondence("x", {"1111": {"21": 1.0}, "1112": {"21": 0.5, "31": 0.5}, "12": {"41": 1.0}})
    assert found.partners("1111") == {"21": 1.0}
    assert found.partners("111") == {"21": 0.75, "31": 0.25}  # each of its codes counts alike
    assert found.partners("1211") == {"41": 1.0}
    assert found.partners("1112", 1) == {"2": 0.5, "3": 0.5}
    assert found.partners("9") == {} == found.partners("13")
    assert candidates_of(found, "01111", None, ksco=True) == {"21": 1.0}
    assert candidates_of(found, "01111", None, ksco=False) == {}


def test_a_chain_has_weights_that_sum_to_1(tmp_path: Path) -> None:
    first = table(tmp_path / "a.tsv", "from to weight\n1 5 3\n1 6 1\n2 6 1\n3 9 1\n4 6 1\n4 9 3\n")
    second = table(tmp_path / "b.tsv", "from to\n5 0\n6 0\n6 7\n")
    third = table(tmp_path / "c.tsv", "from to\n0 11-1011\n7 11-1021\n7 11-1031\n")
    found = read_correspondences([first, second])
    assert found.pairs == {"1": {"0": 0.875, "7": 0.125}, "2": {"0": 0.5, "7": 0.5}, "4": {"0": 0.5, "7": 0.5}}
    assert found.lost == ("9",)
    whole = read_correspondences([first, second, third])
    assert whole.pairs["1"] == {"11-1011": 0.875, "11-1021": 0.0625, "11-1031": 0.0625}
    assert all(sum(weights.values()) == pytest.approx(1, abs=1e-12) for weights in whole.pairs.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from\n1\n", "has no column 'to'"),
        ("from to weight\n1 2 x\n", "column 'weight', from 1 to 2: 'x' is no number above 0"),
        ("from to weight\n1 2 0\n", "is no number above 0"),
        ("from to\n1 2\n1 2\n", "the pair 1 and 2 occurs more than once"),
        ("from to\n", "no row has both"),
    ],
)
def test_wrong_correspondences(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(KjcmError) as error:
        read_correspondence(table(tmp_path / "a.tsv", text))
    assert said in str(error.value) and "a.tsv" in str(error.value)


def test_files_that_do_not_follow_each_other(tmp_path: Path) -> None:
    first, second = table(tmp_path / "a.tsv", "from to\n1 2\n"), table(tmp_path / "b.tsv", "from to\n1 3\n")
    with pytest.raises(KjcmError, match=r"b\.tsv, column 'from': has none of the codes"):
        read_correspondences([first, second])
