"""Why a run failed: derived from its error, and stored in its folder."""

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
        reason: the message.
        exit_code: exit code of a command that ends with this failure.
    """

    kind: str
    reason: str
    exit_code: int = 1


def failure_of(error: BaseException) -> Failure:
    """Return the failure of an error; keep only the type of an unexpected error, whose message may show an answer."""
    if isinstance(error, KjcmError):
        return Failure(error.kind, str(error), error.exit_code)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _says_out_of_memory(error):
        return Failure(
            "out_of_memory",
            f"out of memory ({first_line(error)}). Lower data.batch_size or model.max_length, or take a smaller model.",
        )
    if isinstance(error, OSError):
        return Failure(KjcmError.kind, str(of_the_system(error)))
    return Failure(UNEXPECTED, f"{type(error).__name__} (traceback in {FAILURE})")


def tell(who: str, error: Exception, *, debug: bool = False) -> Failure:
    """Print an error's failure on stderr, and return it; print an unexpected error's traceback, its message only with `debug`."""
    failure, reason = failure_of(error), ""
    if debug:
        traceback.print_exception(error)
    elif failure.kind == UNEXPECTED:
        print("".join(traceback.format_tb(error.__traceback__)), end="", file=sys.stderr)
        reason = f"{type(error).__name__}, a fault of kjcm. Its message may contain an answer: --debug shows it."
    print(f"{who}: {reason or failure.reason}", file=sys.stderr, flush=True)
    return failure


def _says_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower()
        for words in ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")
    )


def write_failure(folder: Path, failure: Failure, error: BaseException | None = None) -> None:
    """Write a failure into its run folder, with the error's traceback but without values.

    Raises:
        KjcmError, OSError: the folder cannot be written.
    """
    trace = [line.strip() for line in traceback.format_tb(error.__traceback__)] if error else []
    write_json(folder / FAILURE, {**asdict(failure), "trace": trace})


def read_failure(folder: Path) -> Failure | None:
    """Return why a folder's run failed; None if it did not fail."""
    if not (folder / FAILURE).is_file():
        return None
    try:
        found: dict[str, Any] = read_json(folder / FAILURE, {"kind": str, "reason": str, "exit_code": int})
        return Failure(found["kind"], found["reason"], found["exit_code"])
    except KjcmError:
        return Failure(UNEXPECTED, f"{folder / FAILURE}: missing or damaged")
