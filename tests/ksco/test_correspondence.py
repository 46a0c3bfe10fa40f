"""Correspondences: weights that sum to 1, codes of other lengths, and chains."""

from pathlib import Path

import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.correspondence import Correspondence, read_correspondence, read_correspondences


def table(path: Path, text: str) -> str:
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return str(path)


def test_partners_of_codes_of_any_length() -> None:
    found = Correspondence("x", {"1111": {"21": 1.0}, "1112": {"21": 0.5, "31": 0.5}, "12": {"41": 1.0}})
    assert found.partners("1111") == {"21": 1.0}
    assert found.partners("111") == {"21": 0.75, "31": 0.25}  # each of its codes counts alike
    assert found.partners("1211") == {"41": 1.0}
    assert found.partners("1112", 1) == {"2": 0.5, "3": 0.5}
    assert found.partners("9") is None is found.partners("13")


def test_spellings_of_ksco_in_the_table(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", "from to\n0111 0211\n1001 1002\n")
    found = read_correspondence(path, from_ksco=True, to_ksco=True)
    assert found.pairs == {"111": {"211": 1.0}, "A01": {"A02": 1.0}} and found.new_codes == {"211", "A02"}
    assert read_correspondence(path).pairs == {"0111": {"0211": 1.0}, "1001": {"1002": 1.0}}
    assert read_correspondence(path).without_zeros == {"111": "0111"}


def test_a_chain_has_weights_that_sum_to_1(tmp_path: Path) -> None:
    first = table(tmp_path / "a.tsv", "from to weight\n1 5 3\n1 6 1\n2 6 1\n3 9 1\n4 6 1\n4 9 3\n")
    second = table(tmp_path / "b.tsv", "from to\n5 0\n6 0\n6 7\n")
    third = table(tmp_path / "c.tsv", "from to\n0 11-1011\n7 11-1021\n7 11-1031\n")
    found = read_correspondences([first, second])
    assert found.pairs == {
        "1": {"0": 0.875, "7": 0.125}, "2": {"0": 0.5, "7": 0.5}, "3": {}, "4": {"0": 0.5, "7": 0.5},
    }  # fmt: skip
    assert found.lost == ("9",)
    whole = read_correspondences([first, second, third])
    assert whole.pairs["1"] == {"11-1011": 0.875, "11-1021": 0.0625, "11-1031": 0.0625}
    assert all(sum(weights.values()) == pytest.approx(1, abs=1e-12) for weights in whole.pairs.values() if weights)
    assert whole.pairs["3"] == {} == whole.partners("3") and whole.new_codes == {"11-1011", "11-1021", "11-1031"}


def test_a_coarse_code_leaves_out_codes_without_partners() -> None:
    found = Correspondence("x", {"11": {}, "12": {"3": 1.0}, "21": {}})
    assert (found.partners("1"), found.partners("2"), found.partners("111")) == ({"3": 1.0}, {}, {})


def test_further_columns_named_ksco7_do_not_count(tmp_path: Path) -> None:
    found = read_correspondence(table(tmp_path / "a.tsv", "from to ksco7\n1 2 3\n"))
    assert found.pairs == {"1": {"2": 1.0}}


def test_titles_of_the_new_codes(tmp_path: Path) -> None:
    first = table(tmp_path / "a.tsv", "from to from_title to_title\n1 2 x y\n1 3 x z\n")
    second = table(tmp_path / "b.tsv", "from to to_title\n2 5 v\n3 5 v\n")
    assert read_correspondence(first).titles == {"2": "y", "3": "z"}
    assert read_correspondences([first, second]).titles == {"5": "v"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from\n1\n", "has no column 'to'"),
        ("from to weight\n1 2 x\n", "column 'weight', from 1 to 2: 'x' is no number above 0"),
        ("from to weight\n1 2 0\n", "is no number above 0"),
        ("from to weight\n1 2 1\n1 2 3\n", "the pair 1 and 2 occurs more than once"),
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
