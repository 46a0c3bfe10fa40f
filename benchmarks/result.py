"""The result of a benchmark: bench.json, and a table on the screen."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import Measured, medians, ratios
from kjcm import __version__
from kjcm.errors import KjcmError
from kjcm.files import write_json

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "accelerate", "onnxruntime", "fastapi", "uvicorn")


@dataclass(frozen=True)
class Comparison:
    """One of kjcm's sides compared with an alternative.

    Attributes:
        ours: name of kjcm's side.
        alternative: name of the other side.
        agreement: figures that show that both did the same work.
    """

    ours: str
    alternative: str
    agreement: Mapping[str, float | bool]


@dataclass(frozen=True)
class Benchmark:
    """A finished benchmark.

    Attributes:
        name: 'train', 'predict', 'serve' or 'prepare'.
        compared: what is timed, on how many rows, in a sentence.
        synthetic: whether the rows are the synthetic twin's.
        config: the resolved config.
        machine: what `device.machine` returned before the first measurement.
        sides: side -> its description.
        measured: side -> its measurements.
        comparisons: the pairs of sides to compare.
        profile: of kjcm's steps, with profile=true.
    """

    name: str
    compared: str
    synthetic: bool
    config: Mapping[str, Any]
    machine: Mapping[str, Any]
    sides: Mapping[str, str]
    measured: Measured
    comparisons: Sequence[Comparison]
    profile: Mapping[str, Any] | None = None


def file_to_write(out: str, overwrite: bool) -> Path:
    """Return the path of bench.json in `out`; call it before anything is measured.

    Raises:
        KjcmError: the file exists, and overwrite=true is missing.
    """
    file = Path(out).expanduser() / "bench.json"
    if file.exists() and not overwrite:
        raise KjcmError(f"{file} exists. Choose another out=DIR, or add overwrite=true.")
    return file


def write(file: Path, benchmark: Benchmark) -> None:
    """Write bench.json and print the table."""
    record = record_of(benchmark)
    write_json(file, record)
    show(record)
    print(f"results in {file}")


def record_of(benchmark: Benchmark) -> dict[str, Any]:
    """Return the content of bench.json (docs/schemas/bench.schema.json)."""
    measured = benchmark.measured
    return {
        "name": benchmark.name,
        "compared": benchmark.compared,
        "synthetic": benchmark.synthetic,
        "comparisons": [
            {
                "name": f"{one.ours} / {one.alternative}",
                "ours": one.ours,
                "alternative": one.alternative,
                "ratio": median(each := ratios(measured[one.ours], measured[one.alternative])),
                "spread": [min(each), max(each)],
                "ratios": each,
                "agreement": dict(one.agreement),
            }
            for one in benchmark.comparisons
        ],
        "sides": {
            name: {
                "about": about,
                **medians(measured[name]),
                "measurements": [
                    {key: value for key, value in vars(one).items() if key != "result"} for one in measured[name]
                ],
            }
            for name, about in benchmark.sides.items()
        },
        "profile": benchmark.profile,
        "machine": dict(benchmark.machine),
        "versions": {"kjcm": __version__, "python": platform.python_version(), **_versions()},
        "config": dict(benchmark.config),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
    return found


def show(record: Mapping[str, Any]) -> None:
    """Print the sides, the ratios and the profile."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    sides = Table(title=record["compared"], title_justify="left")
    for head in ("side", "rows/s", "tokens/s", "ms/step", "seconds", "set-up", "peak MiB"):
        sides.add_column(head, justify="left" if head == "side" else "right")
    for name, side in record["sides"].items():
        memory = side["peak_memory"]
        sides.add_row(
            name, _figure(side["rows_per_second"]), _figure(side["tokens_per_second"]),
            _figure(side["milliseconds_per_step"]), f"{side['seconds']:.2f}", f"{side['setup_seconds']:.2f}",
            _figure(None if memory is None else memory / 2**20),
        )  # fmt: skip
    console.print(sides)
    compared = Table("times as fast", "median", "least to greatest", "agreement")
    for one in record["comparisons"]:
        low, high = one["spread"]
        agreement = "\n".join(f"{key.replace('_', ' ')} {_text(value)}" for key, value in one["agreement"].items())
        compared.add_row(one["name"], f"{one['ratio']:.2f}", f"{low:.2f} to {high:.2f}", agreement)
    if record["comparisons"]:
        console.print(compared)
    if record["profile"]:
        console.print(*_profile(record["profile"]), sep="\n")


def _profile(found: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a table of a step's operations, and a sentence with the step's floor."""
    from rich.table import Table

    table = Table(title=f"a profile of one step, the mean of {found['steps']}", title_justify="left")
    for head in ("operation", "calls", "ms", "share"):
        table.add_column(head, justify="left" if head == "operation" else "right")
    whole = sum(one["milliseconds"] for one in found["operations"])
    for one in found["operations"]:
        spent = one["milliseconds"]
        table.add_row(one["name"], f"{one['calls']:,.0f}", f"{spent:,.2f}", f"{spent / (whole or 1):.0%}")
    best = found["floor"]
    return table, (
        f"{found['milliseconds_per_step']:,.1f} ms a step under the profiler. At the best rates measured here, "
        f"{best['flop'] / 1e9:,.2f} GFLOP of matrix products ({best['flop_per_second'] / 1e9:,.0f} GFLOP/s) and "
        f"{best['bytes'] / 1e9:.2f} GB of the optimiser's memory ({best['bytes_per_second'] / 1e9:,.0f} GB/s) take "
        f"{best['milliseconds_per_step']:,.1f} ms."
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _text(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.4g}"
