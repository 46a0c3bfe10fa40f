"""`kjcm ensemble`: its arguments as those of `kjcm train model=ensemble`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kjcm.keys.composition import register
from kjcm.keys.key import own_keys
from kjcm.keys.models import EnsembleConfig, ModelConfig
from kjcm.keys.overrides import composed_config, for_hydra, is_flag, quoted, word_key
from kjcm.run_folder.contents import recorded_data, run_config
from kjcm.run_folder.folder import run_of
from kjcm.run_folder.states import leaves

NOT_READ = ("data.batch_size", "data.higher_cutoff")  # by an ensemble
OWN = set(own_keys(EnsembleConfig)) - set(own_keys(ModelConfig)) - {"kind"}  # keys that stand without `model.`


def as_training(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `kjcm train` that mean the same; the first member that is a run gives its data.

    Raises:
        KjcmError: that run's config is damaged.
    """
    words = [
        re.sub(r"^([+~]*)", r"\1model.", word) if word_key(word) in OWN and not is_flag(word) else word
        for word in arguments
    ]
    data: list[str] = []
    if members := [word for word in words if word_key(word) == "model.members" and "=" in word]:
        value: Any = OverridesParser.create().parse_override(for_hydra("train", members[-1:], swept=False)[0]).value()
        runs = filter(None, (run_of(str(one)) for one in value)) if isinstance(value, list) else iter(())
        if run := next(runs, None):
            data = _data_of(run, {word_key(word) for word in words})
    return ["model=ensemble", *data, *words]


def _data_of(run: Path, given: set[str]) -> list[str]:
    """Return overrides with a run's data and classification, unless these groups are given."""
    register()
    recorded = run_config(run)
    recorded_data(run, recorded)  # a run folder may come from elsewhere
    groups = {"data": recorded["data"]["source"], "classification": recorded["classification"]["name"]}
    choices = {name: f"{name}={choice}" for name, choice in groups.items() if name not in given}
    default = OmegaConf.to_container(composed_config("train", [*choices.values()]), resolve=True)
    before = dict(leaves({name: dict(default)[name] for name in choices}))  # type: ignore[arg-type]
    found = leaves({name: recorded[name] for name in choices})
    other = [(key, value) for key, value in found if key not in NOT_READ and before.get(key) != value]
    return [*choices.values(), *(f"{key}={_text_of(value)}" for key, value in other)]


def _text_of(value: Any) -> str:
    """Return the value of an override."""
    if isinstance(value, list):
        return f"[{','.join(map(_text_of, value))}]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)
