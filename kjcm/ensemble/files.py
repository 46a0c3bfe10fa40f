"""The files of an ensemble's model folder: ensemble.json, and members/N-NAME/model for each member."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kjcm.ensemble.combination import Combination
from kjcm.ensemble.members import NAME
from kjcm.files import write_json
from kjcm.keys.key import own_keys
from kjcm.keys.models import EnsembleConfig
from kjcm.records import damaged, read_json
from kjcm.run_folder.model_folder import Settings, load_settings, require_intact

RECORD = {"members": [str], "how": str, "weights": [float], "prior": float, "temperature": float}  # ensemble.json
HOW = own_keys(EnsembleConfig)["combine"].choices


def write_ensemble(combination: Combination, members: Mapping[str, Path], folder: Path) -> None:
    """Write ensemble.json and copy each member's model: name -> run folder, in the order of the weights."""
    for name, run in members.items():
        own = folder / "members" / name / "model"
        for file in ("kjcm.json", *load_settings(run / "model").files):
            (own / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / "model" / file, own / file)
    write_json(folder / "ensemble.json", {"members": list(members), **asdict(combination)})


def load_ensemble(folder: Path, *, hashed: bool = True) -> tuple[Combination, list[Path], Settings]:
    """Read what `write_ensemble` wrote: the combination, each member's folder (with its folder `model`), and the settings.

    Args:
        folder: the model folder.
        hashed: whether to compare the files, among them the members' weights, with their digests.

    Raises:
        KjcmError: a file is missing or damaged, or a member has other classes.
    """
    settings = load_settings(folder)
    if hashed:
        require_intact(folder, settings)
    file = folder / "ensemble.json"
    record: dict[str, Any] = read_json(file, RECORD)
    names, weights = record.pop("members"), tuple(record.pop("weights"))
    fine = (
        len(names) == len(weights) > 0 and all(map(NAME.fullmatch, names)) and record["how"] in HOW and record["temperature"] > 0
        and (record["how"] == "logit" or min(weights) > 0) and set(record) == {"how", "prior", "temperature"}
    )  # fmt: skip
    if not fine:
        raise damaged(file, "the members, how, weights or temperature are not usable")
    members = [folder / "members" / name for name in names]
    for member in members:
        own = load_settings(member / "model")
        if own.kind == "ensemble":
            raise damaged(file, f"members/{member.name} is an ensemble")
        if own.classes != settings.classes:
            raise damaged(file, f"members/{member.name} has other classes than the ensemble")
    return Combination(weights=weights, **record), members, settings
