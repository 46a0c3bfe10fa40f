"""The keys of `kjcm export` and `kjcm push`."""

from dataclasses import dataclass

from kjcm.keys.key import key
from kjcm.keys.survey import FileOptions


@dataclass
class ExportConfig(FileOptions):
    """Write a finished run's model as ONNX, checked against PyTorch on real texts ([export.md](export.md))."""

    run: str = key("Run folder; the run must be finished (DONE).", path=True)
    format: str = key("float32, or 8 bits for weights and inputs of the linear layers.", choices=("onnx", "onnx-int8"))
    out: str | None = key("Folder to write; null: `export`/FORMAT in the run folder.", path=True)
    input: str | None = key("File of texts to check, with the run's columns; null: the run's own test rows.", path=True)
    rows: int = key("Texts to check.", least=1, most=10**9)
    tolerance: float = key("`format=onnx`: largest difference of a logit from PyTorch's.", above=0, most=10)
    agreement: float = key("`format=onnx-int8`: share of the texts that must keep their top-1 code.", least=0, most=1)
    narrow: bool | None = key(
        "`format=onnx-int8`: weights of 7 bits, which every processor multiplies correctly; null: where this one needs them."
    )
    overwrite: bool = key("`true`: replace the export.")


@dataclass
class PushConfig:
    """Upload a finished run's model, with its card and calibration, to the Hugging Face hub ([hub.md](hub.md)).

    The token is that of huggingface_hub: `HF_TOKEN`, or the one that `hf auth login` has stored.
    """

    run: str = key("Run folder; the run must be finished (DONE).", path=True)
    repo: str = key("Repository, as ORG/NAME; it is made if it does not exist.")
    revision: str = key("Branch to commit to; it is made if it does not exist.")
    private: bool = key("`false`: a new repository is public, and an existing one may be.")
    message: str | None = key("Message of the commit; null: kjcm's version and the run's hash.")
    share_text: bool = key("`true`: upload a model that contains training texts or a vocabulary of parts of them.")
    dry_run: bool = key("`true`: only list the files; nothing is sent, and the hub is not asked.")
    overwrite: bool = key("`true`: commit to a repository that has files but no model of kjcm.")
