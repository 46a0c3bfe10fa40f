"""The keys of review, export and upload, and of `kjcm doctor`."""

from dataclasses import dataclass

from kjcm.keys.key import key
from kjcm.keys.survey import FileOptions


@dataclass
class ReviewConfig:
    """Review the undecided rows of a coded file in a browser, or export the file with the decisions ([review.md](review.md))."""

    run: str = key("Run folder that coded the file; after an audit, the one that it printed.", path=True)
    input: str = key("File that `kjcm predict` or `kjcm audit` wrote.", path=True)
    db: str | None = key("SQLite file of the decisions; null: INPUT.review.sqlite.", path=True)
    export: str | None = key(
        "File to write with the decisions instead of serving the page: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.",
        path=True,
    )
    decisions: list[str] = key("Decisions of the model that a reviewer checks; also `accept`, `invalid`.")
    who: str | None = key(
        "Reviewer's name, 1 to 64 printable characters, the first none of `= + - @`; null: the login name."
    )
    language: str = key("First language of the page.", choices=("ko", "en"))
    host: str = key("Address of the server; any but loopback needs a token.")
    port: int = key("Port of the server.", least=1, most=65535)
    token: str | None = key("Token for another host; null: kjcm makes and prints one.")
    open_browser: bool = key("`true`: open the page.")
    overwrite: bool = key("`true`: replace the export.")


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


@dataclass
class DoctorConfig:
    """Report what will work on this machine: device, bf16, hub, tokenizers, W&B mode, versions."""

    tokenizer_path: str | None = key(
        "KoBERT's SentencePiece file, or its folder, to check; null: the hub's.", path=True
    )
    hub: bool = key("`false`: do not try to reach the hub.")
