"""The keys of `kjcm drift`."""

from dataclasses import dataclass, field

from kjcm.keys.coding import MODEL, AnswerColumns
from kjcm.keys.key import key, seed_key
from kjcm.keys.survey import FileOptions


@dataclass
class PromiseRules:
    """The promise that is checked ([triage.md](triage.md))."""

    target_error: float | None = key(
        "Share of the accepted rows that may be wrong, as 0.05; null: the fixed threshold.", above=0, most=0.99
    )
    threshold: float = key("Without a target: least probability of an accepted top-1 code.", least=0, most=1)
    confidence: float = key("Confidence of the promise, and of all intervals and tests.", least=0.5, most=0.9999)


@dataclass
class DriftConfig(FileOptions):
    """Compare a file with the held-out rows of a run's promise, and check the promise on a sample ([drift.md](drift.md)).

    `sample` writes an audit sample for `kjcm review`; `audited` reads the reviewed sample and estimates the error.
    """

    run: str = key(MODEL, path=True)
    input: str | None = key("File to compare, of any kind that `kjcm predict` reads.", path=True)
    output: str | None = key("Folder to write drift.json to.", path=True)
    sample: str | None = key(
        "Audit sample to write, in the layout of `kjcm predict`. Same kinds of files as there.", path=True
    )
    audited: str | None = key("Reviewed audit sample (`kjcm review export=FILE`), instead of `input`.", path=True)
    columns: AnswerColumns = field(default_factory=AnswerColumns)
    triage: PromiseRules = field(default_factory=PromiseRules)
    half_width: float = key("Approximate half width of the interval of the sample's error.", above=0, most=0.5)
    expected_error: float | None = key(
        "Error share that the sample's size is made for; null: the target, or the probabilities' error if it is larger.",
        above=0, most=1,
    )  # fmt: skip
    decisions: list[str] = key("Decisions whose rows are sampled, each by itself, as `[accept,choose]`.")
    exchanges: int = key("Random permutations of the rows for each test.", least=199, most=10**6)
    seed: int = seed_key("Seed of the permutations and of the sample.")
    chunk_rows: int = key("Rows of a chunk.", least=1, most=10**8)
    accelerator: str = key("Accelerator.", choices=("auto", "cpu", "gpu"))
    precision: str = key("Precision of the coding, as in `kjcm predict`.", choices=("auto", "32-true", "bf16", "int8"))
    overwrite: bool = key("`true`: replace drift.json and the sample.")
