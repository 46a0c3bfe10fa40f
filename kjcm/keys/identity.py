"""What a config key is for a run's identity, as the fields of `TrainConfig`, `BaselineConfig` and the groups say."""

from collections.abc import Iterator
from typing import Any

from kjcm.keys.commands.index import COMMANDS, GROUPS, lead_of
from kjcm.keys.commands.train import BaselineConfig, PretrainConfig, TrainConfig
from kjcm.keys.key import MISSING, Key, keys_of, list_types, own_keys


def _keys() -> Iterator[tuple[str, Key]]:
    for command in (TrainConfig, BaselineConfig, PretrainConfig):
        yield from own_keys(command).items()
        yield from ((name, key) for name, _, key in keys_of(command, without=tuple(GROUPS)) if "." in name)
    for group, nodes in GROUPS.items():
        for choice, node in nodes.items():
            yield from ((name, key) for name, _, key in keys_of(node, lead_of(group, choice)))


# nodes that only encoders depend on
OF_ENCODERS = (
    "tokenizer", "loss", "optim", "param_groups", "schedule", "callbacks", "metrics", "engine", "trainer",
)  # fmt: skip

BY_VIEWS = ("linear", "nearest")  # kinds of model that read views of a row, with scikit-learn and on a CPU
# kind of model -> nodes that do not count
NOT_READ = {**dict.fromkeys(BY_VIEWS, OF_ENCODERS), "ensemble": (*OF_ENCODERS, "augment")}
OF_EMBEDDINGS = ("pretrained", "prefix", "max_length")  # keys of such a model that only views of `encoder` read


def _all(part: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, key in _keys() if key.identity == part))


WHERE_AND_HOW = _all("where")  # where and how a run happens
INPUTS = _all("input")  # input files and folders: their contents count, not their paths
LEGACY: dict[str, Any] = {
    name: key.legacy for name, key in _keys() if key.legacy != MISSING
}  # keys that older runs lack
PATHS = {
    *INPUTS,
    *(name for command in COMMANDS.values() for name, key in own_keys(command).items() if key.path),
} - {name for command in COMMANDS.values() for name in list_types(command)}  # keys of one path each, in every command
