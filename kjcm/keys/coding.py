"""The keys of triage and of coding, some of which serving shares."""

from dataclasses import dataclass, field

from kjcm.keys.key import key
from kjcm.keys.survey import FileOptions

MODEL = "Finished run's folder, its folder `model`, or a model of the hub: ORG/NAME or ORG/NAME@REVISION ([hub.md](hub.md))."

UNSEEN = "Level of a [covariate](data.md#covariates) that no training row has: an error, or a missing value."


@dataclass
class AnswerColumns:
    """Role -> column of the answers; '@run' stands for the run's own column, null for none."""

    workplace: str | None = key("Column of the workplace; `@run`: named as in the run's data; null: none.")
    position: str | None = key("Column of the position, likewise.")
    task: str | None = key("Column of the task, likewise.")


@dataclass
class CodingColumns(AnswerColumns):
    """The same for a file to code, with the column of managers."""

    manages: str | None = key("Column that says whether a person manages others, for `triage.managers=column`.")


@dataclass
class TriageRules:
    """What is done with a coded row ([triage.md](triage.md))."""

    threshold: float | None = key(
        "Without a target: least probability of an accepted top-1 code, or of a parent; null: 0.8 (the paper), and no row "
        "for a run from titles.",
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
    index: str = key(
        "For job titles in the index: `accept` a title's only code, `suggest` its codes, or `off` "
        "([title-index.md](title-index.md)).",
        choices=("accept", "suggest", "off"),
    )
    index_file: str | None = key(
        "File of job titles for `triage.index`; null: the run's own `classification.index`.", path=True
    )


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
class RayConfig:
    """Where the chunks are coded ([scale.md](scale.md#ray))."""

    engine: str = key(
        "`local`: by this process; `ray`: by workers on Ray, with `pip install 'kjcm[ray]'`. Short form: `engine=ray`.",
        choices=("local", "ray"),
    )
    address: str = key(
        "`local`: start Ray on this machine; `auto`: use this machine's cluster; HOST:PORT: the cluster with this head."
    )
    workers: int = key("Processes that code, each with its own model.", least=1, most=10**4)
    cpus: int = key("Cores of a worker. With `accelerator=gpu` each worker also has a GPU.", least=1, most=1024)


@dataclass
class SecondConfig:
    """A second run that codes the same rows, as industry next to occupation ([coding.md](coding.md#a-second-code))."""

    run: str | None = key("Finished run of another classification; null: none.", path=True)
    prefix: str = key("Before the names of the columns that the second run adds.")
    columns: AnswerColumns = field(default_factory=AnswerColumns)


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
    second: SecondConfig = field(default_factory=SecondConfig)
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
    all_probabilities: bool = key(
        "`true`: add the probability of every class ([coding.md](coding.md#all-probabilities)); Parquet only."
    )
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
    ray: RayConfig = field(default_factory=RayConfig)
    shard: str | None = key("Part of the chunks to code without writing the output, as `3/16` ([scale.md](scale.md)).")
    merge: int | None = key("Number of the shards to make the output of, all done.", least=1, most=999999)
    overwrite: bool = key("`true`: replace the output.")
