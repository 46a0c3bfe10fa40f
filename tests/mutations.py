"""Change kjcm at places that matter, one at a time, and show that a test fails: `python -m tests.mutations [OUT]`.

The changes are made in a copy of the checkout. A mutation that no named test catches ends the command with 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutation:
    """A fault put in on purpose.

    Attributes:
        what: the fault, in words.
        file: below kjcm/.
        old: text that occurs once in the file.
        new: its replacement.
        tests: arguments of pytest that must fail.
    """

    what: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation("logit adjustment with the wrong sign", "model/losses.py", "logits + self.shift", "logits - self.shift",
             "tests/model/test_losses.py"),
    Mutation("focal loss weights easy rows up", "model/losses.py", "(1 - (-loss).exp())", "((-loss).exp())",
             "tests/model/test_losses.py"),
    Mutation("warm-up begins at 0", "engine/schedules.py", "(step + 1) / (rise + 1)", "step / (rise + 1)",
             "tests/engine/test_learning.py"),
    Mutation("the calibration half has one row too many", "survey/split.py",
             "return ranks < boundary(ranks, np.ones", "return ranks <= boundary(ranks, np.ones",
             "tests/run_folder/test_held_out.py"),
    Mutation("validation rows are those to keep", "survey/split.py", "round_half_up((1 - validation)",
             "round_half_up(validation", "tests/survey/test_split.py"),
    Mutation("a group of exactly the cutoff stays", "survey/cohort.py", "sizes <= cutoff", "sizes < cutoff",
             "tests/survey/test_cohort.py"),
    Mutation("Top-k is Top-1", "engine/scores.py", "top_k=min(k, self.predictable)", "top_k=1",
             "tests/engine/test_scores.py"),
    Mutation("a resumed epoch begins at the wrong row", "engine/data.py", "step * self.batch_size)", "step)",
             "tests/training/test_resume.py -k between_two_steps"),
    Mutation("every epoch has the same order", "engine/data.py", "PCG64([seed, epoch])", "PCG64([seed, 0])",
             "tests/engine/test_data.py"),
    Mutation("every threshold of triage passes", "triage/thresholds.py", "passed=p <= own", "passed=True",
             "tests/triage/test_thresholds.py"),
    Mutation("the test of a threshold forgives an error", "triage/thresholds.py",
             "binom.cdf(counts[:, 1], counts[:, 0], target)", "binom.cdf(counts[:, 1] - 1, counts[:, 0], target)",
             "tests/triage/test_thresholds.py"),
    Mutation("a pick list begins with the least likely code", "triage/pick_lists.py", "np.argsort(-own, axis=1",
             "np.argsort(own, axis=1", "tests/triage/test_pick_lists.py"),
    Mutation("logits are multiplied by the temperature", "triage/calibration.py", ".astype(np.float64) / temperature",
             ".astype(np.float64) * temperature", "tests/triage/test_calibration.py"),
    Mutation("F1 is half as large", "confusion.py", "ratio(2 * both, true + predicted)",
             "ratio(both, true + predicted)", "tests/test_confusion.py"),
    Mutation("macro F1 counts classes that do not occur", "confusion.py", "f1[true + predicted > 0].mean()",
             "f1.mean()", "tests/test_confusion.py"),
    Mutation("a cell that begins with @ is not guarded", "files.py", r'r"^[=+\-@\t', r'r"^[=+\-\t',
             "tests/test_files.py tests/write/test_table.py"),
    Mutation("a quotation mark in a CSV cell is not doubled", "write/text.py",
             """pc.replace_substring(cells, '"', '""')""", "cells", "tests/write/test_table.py"),
    Mutation("a released lease is still held", "run_folder/lease.py", "    if holder.released:\n        return False",
             "    if holder.released:\n        return True", "tests/run_folder/test_lease.py"),
    Mutation("a damaged checkpoint is read", "training/checkpoints.py",
             "if digest(file)[:16] != NAME.fullmatch(file.name)[2]:", "if False:",
             "tests/training/test_checkpoints.py"),
    Mutation("a coded chunk with rows missing is used", "coding/parts.py",
             "return found if all(len(value) == rows for value in vars(found).values()) else None", "return found",
             "tests/coding/test_parts.py"),
    Mutation("a chunk is stored after another process took over", "coding/parts.py",
             "        self.require_held()\n        with atomic(self._part(number))",
             "        with atomic(self._part(number))", "tests/coding/test_parts.py"),
    Mutation("a shorter KSCO-6 code finds nothing", "ksco/correspondence.py", "elif code in self._beneath:",
             "elif False:", "tests/ksco/test_crosswalk.py"),
)  # fmt: skip


def fails(mutation: Mutation, checkout: Path) -> bool:
    """Put a mutation into a checkout, run its tests, and take it out again; return whether a test failed.

    Raises:
        ValueError: the old text does not occur once, or the tests could not be run.
    """
    file = checkout / "kjcm" / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: {mutation.old!r} occurs {text.count(mutation.old)} times.")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *mutation.tests.split()],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
        )
    finally:
        file.write_text(text, encoding="utf-8")
    if ran.returncode not in (0, 1) or " error" in ran.stdout.splitlines()[-1]:
        raise ValueError(f"{mutation.tests}: the tests could not be run.\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.returncode == 1


def main(out: str | None) -> int:
    """Print which mutations the tests caught, write the same table to `out` if given, and return 1 if they missed one."""
    lines = ["| Mutation | In kjcm/ | Tests | Caught |", "|---|---|---|---|"]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        for name in ("kjcm", "conf", "experiments", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", checkout)
        for mutation in MUTATIONS:
            caught = fails(mutation, checkout)
            missed += not caught
            lines.append(
                f"| {mutation.what} | `{mutation.file}` | `{mutation.tests}` | {'yes' if caught else '**no**'} |"
            )
            print(lines[-1], flush=True)
    if out:
        Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [None]))
