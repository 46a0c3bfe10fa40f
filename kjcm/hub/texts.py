"""Which parts of respondents' texts the files of a model contain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kjcm.keys.identity import BY_VIEWS
from kjcm.records import read_json


def has_text_parts(config: Mapping[str, Any], kind: str) -> bool:
    """Return whether a model's vocabulary consists of parts of its training texts.

    Args:
        config: the run's config.
        kind: of the model.
    """
    node = config["tokenizer"]
    # a local tokenizer may come from an earlier run, which trained it on answers
    local = node["kind"] == "huggingface" and Path(node["path"] or config["model"].get("pretrained") or "").is_dir()
    # a vocabulary of views is parts of answers; most ensembles have a member with one
    return node["kind"] == "trained" or local or kind in (*BY_VIEWS, "ensemble")


def kept_texts(folder: Path) -> int:
    """Return the number of training texts that a model folder contains unchanged.

    Raises:
        KjcmError: a file is damaged.
    """
    files = [*folder.glob("nearest.json"), *folder.glob("members/*/model/nearest.json")]
    return sum(len(read_json(file, {"texts": ([str], None)})["texts"] or ()) for file in files)
