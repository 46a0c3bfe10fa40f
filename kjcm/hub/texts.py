"""Which parts of respondents' texts the files of a model contain."""

from pathlib import Path

from kjcm.keys.identity import BY_VIEWS
from kjcm.records import read_json
from kjcm.run_folder.contents import run_config, run_identity


def has_text_parts(run: Path, kind: str) -> bool:
    """Return whether the vocabulary of a run's model consists of parts of its training texts.

    Args:
        run: the run folder.
        kind: of the model.
    """
    tokenizer = run_config(run).get("tokenizer", {}).get("kind")  # a baseline has none
    # a local tokenizer may come from an earlier run, which trained it on answers
    local = tokenizer == "huggingface" and {"tokenizer.path", "model.pretrained"} & run_identity(run)["inputs"].keys()
    # a vocabulary of views is parts of answers; most ensembles have a member with one
    return tokenizer == "trained" or bool(local) or kind in (*BY_VIEWS, "ensemble")


def kept_texts(folder: Path) -> int:
    """Return the number of training texts that a model folder contains unchanged.

    Raises:
        KjcmError: a file is damaged.
    """
    files = [*folder.glob("nearest.json"), *folder.glob("members/*/model/nearest.json")]
    return sum(len(read_json(file, {"texts": ([str], None)})["texts"] or ()) for file in files)
