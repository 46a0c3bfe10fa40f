"""The keys of the commands that start a server, `kjcm serve` and `kjcm review`, and of `kjcm search`."""

from dataclasses import dataclass, field

from kjcm.keys.coding import UNSEEN, CodingColumns, TargetRules
from kjcm.keys.key import MISSING, key
from kjcm.keys.survey import ClassificationConfig


@dataclass
class Batching:
    """How `kjcm serve` codes the rows of several requests together."""

    rows: int = key("Most rows of a batch. A request with more rows is a batch of its own.", least=1, most=10**6)
    wait_ms: float = key("Milliseconds that a request waits for others to share its batch.", least=0, most=10**4)


@dataclass
class Limits:
    """Limits of the requests to `kjcm serve` ([serving.md](serving.md#limits))."""

    rows: int = key("Most rows of a request, else 422.", least=1, most=10**6)
    characters: int = key("Most characters of a text, else 422.", least=1, most=10**6)
    bytes: int = key("Most bytes of a request's body, else 413.", least=1000, most=10**9)
    waiting: int = key("Most rows that wait for the model. Further requests get 503.", least=1, most=10**8)
    seconds: float = key("Most seconds until a request has its answer, else 504.", above=0, most=3600)


@dataclass
class ServeConfig:
    """Serve a finished run's model over HTTP: send texts, get codes and decisions ([serving.md](serving.md)).

    Install it with `pip install 'kjcm[serve]'`.
    """

    run: str = key("Run folder; the run must be finished (DONE).", path=True)
    columns: CodingColumns = field(default_factory=CodingColumns)
    unseen_levels: str = key(UNSEEN, choices=("error", "missing"))
    triage: TargetRules = field(default_factory=TargetRules)
    top_k: int = key("Most codes of a row, or all classes of the run if it has fewer.", least=1, most=10)
    batch_size: int | None = key(
        "Texts of full length whose tokens fill a batch, as for `kjcm predict`.", least=1, most=10**6
    )
    accelerator: str = key("Accelerator.", choices=("auto", "cpu", "gpu"))
    precision: str = key("Precision, as for `kjcm predict`.", choices=("auto", "32-true", "bf16", "int8"))
    compile: bool = key("Compile the model with torch.compile, in half a minute; not int8.")
    host: str = key("Address of the server; any but loopback needs a token.")
    port: int = key("Port of the server.", least=1, most=65535)
    token: str | None = key("Bearer token that requests need; null: the environment variable KJCM_TOKEN, or none.")
    without_token: bool = key("`true`: listen on any address without a token.")
    batching: Batching = field(default_factory=Batching)
    limits: Limits = field(default_factory=Limits)


@dataclass
class SearchConfig:
    """Find the codes of a job title by code, titles, index and, last, a run's model ([search.md](search.md)).

    `kjcm search QUERY` means `query=QUERY`. In a terminal it prints a table, else TSV.
    """

    query: str = key("A code or its beginning, a title or a part of it, initial consonants as ㅊㅅㅇ.")
    classification: ClassificationConfig = MISSING
    run: str | None = key(
        "Run folder: its classification, level and index are searched, and its model's codes come last; null: none.",
        path=True,
    )
    level: int | None = key("Digits of the codes to show; null: those of the run, else whole codes.", least=1, most=10)
    most: int = key("Most groups to show.", least=1, most=10**6)


@dataclass
class ReviewIndex:
    """The index of job titles that the page searches."""

    index: str | None = key(
        "Index of job titles to search ([title-index.md](title-index.md)); null: the run's.", path=True
    )


@dataclass
class ReviewConfig:
    """Review the undecided rows of a coded file in a browser, or export the file with the decisions ([review.md](review.md))."""

    run: str = key(
        "Run folder that coded the file. For an audit's file: the run folder that `kjcm audit` printed.", path=True
    )
    input: str = key("File that `kjcm predict` or `kjcm audit` wrote.", path=True)
    classification: ReviewIndex = field(default_factory=ReviewIndex)
    db: str | None = key("SQLite file of the decisions; null: INPUT.review.sqlite.", path=True)
    export: str | None = key(
        "File to write with the decisions instead of serving the page: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.",
        path=True,
    )
    decisions: list[str] = key("Decisions of the model that a reviewer checks; also `accept`, `index`, `invalid`.")
    show: list[str] = key("Columns of `input` to show besides the texts, as `[age,wave]`.")
    id: str | None = key("Column of `input` with the rows' ids, to go to a row; null: the run's `data.columns.id`.")
    once: bool = key("`true`: decide rows with the same texts once; `false`: decide each row.")
    who: str | None = key(
        "Reviewer's name: 1 to 64 printable characters, not beginning with `=`, `+`, `-` or `@`; null: the login name."
    )
    language: str = key("First language of the page.", choices=("ko", "en"))
    host: str = key("Address of the server; any but loopback needs a token.")
    port: int = key("Port of the server.", least=1, most=65535)
    token: str | None = key("Token for another host; null: kjcm makes and prints one.")
    open_browser: bool = key("`true`: open the page.")
    overwrite: bool = key("`true`: replace the export.")
