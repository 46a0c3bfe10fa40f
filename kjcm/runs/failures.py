"""Why a run failed: told by its error, and kept in its folder."""

import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kjcm.errors import KjcmError, first_line, of_the_system
from kjcm.files import write_json
from kjcm.records import read_json

FAILURE = "failure.json"
UNEXPECTED = "unexpected"


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes:
        kind: error (input or surroundings), out_of_memory, killed, pruned (by a search), or unexpected.
        reason: what a person reads.
        exit_code: of a command that ends with it.
    """

    kind: str
    reason: str
    exit_code: int = 1


def failure_of(error: BaseException) -> Failure:
    """Return what an error means; of an unexpected one only its type is kept, for its message may show an answer."""
    if isinstance(error, KjcmError):
        return Failure(error.kind, str(error), error.exit_code)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _says_out_of_memory(error):
        return Failure(
            "out_of_memory",
            f"out of memory ({first_line(error)}). Lower data.batch_size or model.max_length, or take a smaller model.",
        )
    if isinstance(error, OSError):
        return Failure(KjcmError.kind, str(of_the_system(error)))
    return Failure(UNEXPECTED, f"{type(error).__name__} (its places in the code are in {FAILURE})")


def tell(who: str, error: Exception, *, debug: bool = False) -> Failure:
    """Say on stderr what an error means, and return it; of an unexpected one its places, and its message with `debug` alone."""
    failure, reason = failure_of(error), ""
    if debug:
        traceback.print_exception(error)
    elif failure.kind == UNEXPECTED:
        print("".join(traceback.format_tb(error.__traceback__)), end="", file=sys.stderr)
        reason = f"{type(error).__name__}, a fault of kjcm. Its message may hold an answer: --debug shows it."
    print(f"{who}: {reason or failure.reason}", file=sys.stderr, flush=True)
    return failure


def _says_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower()
        for words in ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")
    )


def write_failure(folder: Path, failure: Failure, error: BaseException | None = None) -> None:
    """Keep a failure in the folder of its run, with the places that its error came by, without their values.

    Raises:
        KjcmError, OSError: the folder cannot be written.
    """
    trace = [line.strip() for line in traceback.format_tb(error.__traceback__)] if error else []
    write_json(folder / FAILURE, {**asdict(failure), "trace": trace})


def read_failure(folder: Path) -> Failure | None:
    """Return why the run of a folder failed; None where it did not."""
    if not (folder / FAILURE).is_file():
        return None
    try:
        found: dict[str, Any] = read_json(folder / FAILURE, {"kind": str, "reason": str, "exit_code": int})
        return Failure(found["kind"], found["reason"], found["exit_code"])
    except KjcmError:
        return Failure(UNEXPECTED, f"{folder / FAILURE}: missing or damaged")
