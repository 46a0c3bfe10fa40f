"""A config key: a dataclass field with its type, its help, the values it allows, and its part in a run's identity."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

MISSING: Any = "???"  # OmegaConf's mark of a key without a value: conf/ has the values
GUARD = 10**5  # a limit from here on only catches absurd numbers, so the reference leaves it out
TYPES = {str: "text", int: "int", float: "float", bool: "bool", Any: "any", NoneType: "null"}

Node = TypeVar("Node")


@dataclass(frozen=True)
class Key:
    """What a key's type does not say.

    Attributes:
        help: what the key means, in a line.
        choices: the values that it may have; any if empty.
        least: the least number that it, or each number of its list, may be.
        above: a bound below, not allowed itself.
        most: the greatest number.
        below: a bound above, not allowed itself.
        path: whether its value names a file or folder.
        identity: its part in a run's identity: `result` counts by its value, `input` names a file or folder that counts
            by its content, `where` (where and how a run happens) does not count.
        legacy: the value that changes nothing for runs which are older than the key; with it the key does not count.
    """

    help: str
    choices: tuple[str | int, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    path: bool = False
    identity: Literal["result", "where", "input"] = "result"
    legacy: Any = MISSING

    def fault(self, value: Any) -> str:
        """Return what values are allowed if `value` is not, else ''."""
        parts = value if isinstance(value, list) else [value]
        if self.choices and not all(part is None or part in self.choices for part in parts):
            return f"choose one of {', '.join(map(str, self.choices))}"
        wrong = [part for part in parts if part is not None and not self._is_within(part)]
        too_great = self.most is not None and any(part > self.most for part in wrong)
        return f"use {self.range(guards=too_great)}" if wrong else ""

    def _is_within(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def range(self, guards: bool = True) -> str:
        """Return the allowed numbers in words, as `1 to 10`; '' where all are allowed.

        Args:
            guards: whether to name limits that only catch absurd numbers.
        """
        low = f"above {self.above}" if self.above is not None else "" if self.least is None else f"{self.least}"
        most = None if not guards and self.most is not None and self.most >= GUARD else self.most
        high = f"below {self.below}" if self.below is not None else "" if most is None else f"{most}"
        if low and high:
            return f"{low} to {high}"
        return f"at most {high}" if high else low if self.above is not None or not low else f"at least {low}"


def key(text: str, **limits: Any) -> Any:
    """Return the dataclass field of a key with this help; `limits` are the other attributes of `Key`."""
    return field(default=MISSING, metadata={"key": Key(text, **limits)})


def seed_key(text: str, **limits: Any) -> Any:
    """Return the dataclass field of a seed."""
    return key(text, least=0, most=2**32 - 1, **limits)


def own_keys(kind: type) -> dict[str, Key]:
    """Return name -> key of the fields of a dataclass that have one."""
    return {one.name: one.metadata["key"] for one in fields(kind) if "key" in one.metadata}


@lru_cache
def list_types(kind: type) -> dict[str, Any]:
    """Return name -> type of the parts, for the fields of a dataclass that may be lists."""
    hints = get_type_hints(kind).items()
    return {
        name: get_args(one)[0] for name, hint in hints for one in (hint, *get_args(hint)) if get_origin(one) is list
    }


def keys_of(kind: type, lead: str = "", without: Sequence[str] = ()) -> Iterator[tuple[str, Any, Key]]:
    """Yield dotted key, type and `Key` of a dataclass and of the dataclasses in it, but for the nodes named in `without`."""
    hints, keys = get_type_hints(kind), own_keys(kind)
    for one in fields(kind):
        hint, name = hints[one.name], f"{lead}{one.name}"
        if is_dataclass(hint):
            if one.name not in without:
                yield from keys_of(hint, f"{name}.")  # type: ignore[arg-type]
        elif one.name in keys and one.name not in without:
            yield name, hint, keys[one.name]


def recorded(kind: type[Node], values: Mapping[str, Any]) -> Node:
    """Return a recorded node as an object of its dataclass; keys that an older run's node lacks are None."""
    hints = get_type_hints(kind)
    nodes = {name for name, hint in hints.items() if is_dataclass(hint)}
    return kind(**{name: recorded(hints[name], values[name]) if name in nodes else values.get(name) for name in hints})


def type_name(hint: Any) -> str:
    """Return what the reference calls a type."""
    if get_origin(hint) is dict:
        return "mapping"
    parts = [type_name(part) for part in get_args(hint)]
    if get_origin(hint) is list:
        return f"list of {parts[0]}"
    return " or ".join(parts) or TYPES[hint]
