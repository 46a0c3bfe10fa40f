"""Parts named by `_target_`: their arguments are compared with the signature, and errors name key and remedy."""

from typing import Any

import pytest

from kjcm.errors import ConfigError
from kjcm.parts import build, require_arguments

HERE = __name__


class Part:
    """A part with arguments of every kind."""

    def __init__(self, needed: int, offered: str = "none", rate: float = 1.0) -> None:
        if rate < 0:
            raise ValueError("rate is below 0")
        self.needed, self.offered, self.rate = needed, offered, rate


def open_ended(**more: Any) -> dict[str, Any]:
    return more


def node(name: str = "Part", **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.{name}", **arguments}


def test_a_part_gets_its_arguments_and_of_what_is_offered_what_it_names() -> None:
    made = build("loss", node(needed=1, rate=0.5), offered="counts", other="not asked for")
    assert (made.needed, made.offered, made.rate) == (1, "counts", 0.5)
    assert build("loss", node(needed=1, offered="own"), offered="counts").offered == "own"
    assert build("x", node("open_ended", values=[1, 2], inner={"a": 1})) == {"values": [1, 2], "inner": {"a": 1}}


def test_a_nested_part_is_made_too() -> None:
    made = build("x", node("open_ended", part=node(needed=2)))
    assert made["part"].needed == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"loss needs _target_"),
        ({"_target_": "nosuch.Module"}, r"loss\._target_=nosuch\.Module: cannot be imported"),
        ({"_target_": "kjcm.parts.OF_HYDRA"}, r"no class and no function"),
        (node(needed=1, rat=0.5), r"loss\.rat: .*Do you mean rate\?"),
        (node(rate=0.5), r"needs loss\.needed=\.\.\."),
    ],
)
def test_what_cannot_be_made_is_told_of(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_arguments("loss", given)


def test_an_offered_argument_is_not_missing() -> None:
    require_arguments("loss", node(), given=("needed",))
    require_arguments("loss", node("open_ended", anything=1))


def test_what_a_target_refuses_is_told_of() -> None:
    with pytest.raises(ConfigError, match=r"loss: .*Part refuses its arguments .*rate is below 0"):
        build("loss", node(needed=1, rate=-1.0))
