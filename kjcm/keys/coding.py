"""The keys of triage, coding, serving, review, export, upload and search, and of the commands for a W&B project."""

from dataclasses import dataclass, field
from typing import Any

from kjcm.keys.key import MISSING, key, seed_key
from kjcm.keys.survey import FileOptions

MODEL = "Finished run's folder, its folder `model`, or a model of the hub: ORG/NAME or ORG/NAME@REVISION ([hub.md](hub.md))."
UNSEEN = "Level of a [covariate](data.md#covariates) that no training row has: an error, or a missing value."


@dataclass
class CodingColumns:
    """Role -> column of a file to code; '@run' stands for the run's own column, null for none."""

    workplace: str | None = key("Column of the workplace; `@run`: named as in the run's data; null: none.")
    position: str | None = key("Column of the position, likewise.")
    task: str | None = key("Column of the task, likewise.")
    manages: str | None = key("Column that says whether a person manages others, for `triage.managers=column`.")


@dataclass
class TriageRules:
    """What is done with a coded row ([triage.md](triage.md))."""

    threshold: float = key(
        "Without a target: least probability of an accepted top-1 code, or of a parent (the paper: 0.8).",
        least=0,
        most=1,
    )
    confidence: float = key(
        "Confidence that `triage.target_error` and `triage.alpha` are kept.", least=0.5, most=0.9999
    )
    alpha: float = key("Share of the shown pick lists that may miss the right code.", above=0, most=0.99)
    k: int = key("Most codes of a pick list (the paper: 5).", least=1, most=20)
    back_off: list[int] = key("Digits of the parents for rows that are not accepted, finest first, as `[2,1]`.")
    managers: str = key(
        "Who may be coded into major group 1: everybody, or people whose words or column say that they manage.",
        choices=("none", "words", "column"),
    )
    calibrated: bool = key("`false`: the model's own probabilities, without the run's temperature.")


@dataclass
class TargetRules(TriageRules):
    """The same, with a target."""

    target_error: float | None = key(
        "Share of the accepted rows that may be wrong, as 0.05; null: the fixed threshold.", above=0, most=0.99
    )


@dataclass
class TriageConfig:
    """Print what a finished run accepts under each target error, measured on its stored held-out rows.

    Nothing is coded, and the model is not loaded ([triage.md](triage.md)).
    """

    run: str = key(MODEL, path=True)
    targets: list[float] = key("Target errors to compare.", above=0, most=0.99)
    triage: TriageRules = field(default_factory=TriageRules)
    out: str | None = key("CSV file to write the table to.", path=True)
    overwrite: bool = key("`true`: replace the file.")


@dataclass
class PredictConfig(FileOptions):
    """Code a file with a finished run ([coding.md](coding.md)).

    All columns and the row order stay. The command adds code_1 to code_k, title_1 to title_k, prob_1 to prob_k, decision,
    decision_code, decision_title, pick_list and reason ([triage.md](triage.md)). OUTPUT.json records what coded the file
    and what the decisions promise. After an interruption the same command resumes.
    """

    run: str = key(MODEL, path=True)
    input: str = key("File to code; CSV, TSV and Parquet are streamed, XLSX, .sav and .dta are read whole.", path=True)
    output: str = key("File to write: .csv, .tsv, .parquet, .xlsx, .sav, .zsav or .dta.", path=True)
    columns: CodingColumns = field(default_factory=CodingColumns)
    unseen_levels: str = key(UNSEEN, choices=("error", "missing"))
    triage: TargetRules = field(default_factory=TargetRules)
    levels: list[int] = key(
        "Levels above the codes that get columns too, as `[1,2]` ([coding.md](coding.md#levels-above)).",
        least=1,
        most=100,
    )
    explain: bool = key(
        "`true`: add the nearest texts and titles ([nearest.md](nearest.md)); for `model=nearest` and ensembles with one."
    )
    top_k: int = key("Codes of a row, or all classes of the run if it has fewer.", least=1, most=10)
    batch_size: int | None = key(
        "Texts of full length whose tokens fill a batch; null: 256 on a GPU, 16 on a CPU, 4 in int8.",
        least=1,
        most=10**6,
    )
    chunk_rows: int = key("Rows of a chunk; at most four chunks are in memory.", least=1, most=10**8)
    accelerator: str = key("Accelerator.", choices=("auto", "cpu", "gpu"))
    precision: str = key(
        "`int8`: on a CPU, with `pip install 'kjcm[onnx]'`; `auto`: bf16 where the device computes in it, else 32-true.",
        choices=("auto", "32-true", "bf16", "int8"),
    )
    compile: bool = key(
        "Compile the model with torch.compile, in half a minute ([coding.md](coding.md#precision)); not int8."
    )
    formulas: str = key(
        "Columns of CSV and TSV whose formulas get a `'`: the added ones, all, or none ([coding.md](coding.md#formulas)).",
        choices=("own", "all", "keep"),
    )
    shard: str | None = key("Part of the chunks to code without writing the output, as `3/16` ([scale.md](scale.md)).")
    merge: int | None = key("Number of the shards to make the output of, all done.", least=1, most=999999)
    overwrite: bool = key("`true`: replace the output.")


@dataclass
class Batching:
    """How `kjcm serve` codes the rows of several requests together."""

    rows: int = key("Most rows of a batch. A request with more rows is a batch of its own.", least=1, most=10**6)
    wait_ms: float = key("Milliseconds that a request waits for others to share its batch.", least=0, most=10**4)


@dataclass
class Limits:
    """What `kjcm serve` accepts ([serving.md](serving.md#limits))."""

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
class WandbProjectConfig:
    """What the commands that save something in a W&B project have in common."""

    entity: str | None = key("W&B user or team; null: WANDB_ENTITY, else the API key's default.")
    project: str = key("W&B project: 1 to 128 characters, none of `/ \\ # ? % :`.")
    dry_run: bool = key("`true`: write as JSON what would be sent, and send nothing; no API key is needed.")
    out: str | None = key("JSON file that `dry_run=true` writes; null: the screen.", path=True)


@dataclass
class WandbWorkspaceConfig(WandbProjectConfig):
    """Save kjcm's panels as a view of a W&B project's workspace ([wandb.md](wandb.md#the-workspace)).

    Install it with `pip install 'kjcm[wandb-workspaces]'`.
    """

    name: str = key("Name of the saved view.")
    overwrite: bool = key("`true`: replace the saved view of this name, or the file `out`.")


@dataclass
class WandbReportConfig(WandbProjectConfig):
    """Save a W&B Report of finished runs: means over seeds, best settings, confusion, links ([wandb.md](wandb.md#reports)).

    Install it with `pip install 'kjcm[wandb-workspaces]'`.
    """

    sweep: str = key("Folder of a sweep (`runs/.sweeps/TIME`), a run folder, or a folder that contains runs.")
    name: str | None = key("Title of the report; null: `Sweep` and the folder's name.")
    metric: str | None = key(
        "Metric that ranks the settings; null: weighted F1, accuracy or loss of the validation rows, the first of them present."
    )
    best: int = key("Settings whose overrides the report lists, the best first.", least=1, most=1000)
    overwrite: bool = key("`true`: replace the report of this title, or the file `out`.")


@dataclass
class WandbSyncConfig:
    """Send every offline W&B run below `runs` once ([wandb.md](wandb.md#offline-runs)); the same command resumes."""

    runs: str = key("Folder of all runs, or one run folder.", path=True)
    entity: str | None = key("W&B user or team to send to; null: as at the training.")
    project: str | None = key("W&B project to send to; null: as at the training.")
    retries: int = key("Times that W&B repeats a failed request; the waits between them double.", least=1, most=1000)
    dry_run: bool = key("`true`: only list what would be sent.")


@dataclass
class SpeedConfig:
    """How a search measures a model's coding speed, `seconds_per_1000_rows`."""

    accelerator: str = key("Device that codes, whatever device trains.", choices=("cpu", "gpu", "auto"), legacy="cpu")
    precision: str = key(
        "Precision of the coding, as in `kjcm predict`.", choices=("auto", "32-true", "bf16", "int8"), legacy="auto"
    )
    rows: int = key("Most validation rows to code.", least=1, most=10**7, legacy=1000)
    repeats: int = key("Times that the rows are coded; the median time counts.", least=1, most=1000, legacy=5)


@dataclass
class SearchConfig:
    """The keys that only `kjcm tune` has."""

    space: dict[str, Any] = key(
        "Config keys and their values: a list, or `low` and `high` with `log` or `step`; the `tune` group sets it."
    )
    trials: int = key(
        "Trials in all, over all processes; with `sampler=grid` at most the combinations.", least=1, most=10**6
    )
    hours: float | None = key(
        "Hours after which this process begins no trial; the same command resumes.", above=0, most=10**5
    )
    sampler: str = key("Optuna's sampler.", choices=("tpe", "random", "grid"))
    sampler_seed: int = seed_key("Seed of the sampler.")
    startup: int = key("`tpe`: random trials before the first modelled one.", least=0, most=10**6)
    pruner: str = key("Optuna's pruner, which ends trials early.", choices=("median", "hyperband", "asha", "none"))
    prune_after: int = key(
        "`median` and `prune_seeds`: finished trials before the first is ended early.", least=0, most=10**6
    )
    prune_from: int = key("Epochs of every trial.", least=1, most=10**6)
    metric: str = key(
        "Metric of the validation rows: `loss`, `accuracy`, `f1_weighted`, ..., `f1_tail`, or one of `metrics`."
    )
    direction: str | None = key("Direction of the search; null: the metric's.", choices=("maximize", "minimize"))
    objectives: list[str] = key(
        "Two metrics of a Pareto search, as `[f1_weighted,seconds_per_1000_rows]`; `[]`: `metric` alone.", legacy=[]
    )
    constraints: Any = key(
        "Metric -> limit that a trial must meet to be the best, as `{f1_tail: '>=0.2'}`; null: none.", legacy=None
    )
    seeds_per_trial: int = key(
        "Trainings of each trial, with the seeds `seed`, `seed` + 1, ...", least=1, most=1000, legacy=1
    )
    over_seeds: str = key(
        "What counts of a trial's seeds: `mean`, or `bound`, the mean made worse by `standard_errors`.",
        choices=("mean", "bound"), legacy="mean",
    )  # fmt: skip
    standard_errors: float = key(
        "`bound`: standard errors of the mean by which it is made worse.", above=0, most=100, legacy=1.0
    )
    prune_seeds: float | None = key(
        "Standard errors by which a trial's first seeds may miss the best trial before the others are left out; null: any.",
        least=0, most=100, legacy=2.0,
    )  # fmt: skip
    tail_share: float = key(
        "`f1_tail`: the smallest groups that together have at most this share of the training rows.",
        above=0, most=1, legacy=0.2,
    )  # fmt: skip
    speed: SpeedConfig = MISSING
    study: str | None = key("Study and its folder in `runs`; null: `tune-` and twelve characters of the study's hash.")
    storage: str | None = key(
        "Journal file or database URL for all processes; null: journal.log in the study's folder.", path=True
    )
