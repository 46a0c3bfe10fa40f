"""What a benchmark leaves: bench.json, a picture as PNG and SVG, and a table on the screen."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Measured, medians, ratio
from kjcm import __version__
from kjcm.errors import KjcmError, some
from kjcm.files import atomic, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("bench.json", "bench.png", "bench.svg")
PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "accelerate", "onnxruntime")


@dataclass(frozen=True)
class Comparison:
    """One of our sides beside another.

    Attributes:
        ours: name of our side.
        alternative: name of the other.
        agreement: what shows that both did the same work.
    """

    ours: str
    alternative: str
    agreement: Mapping[str, float | bool]


@dataclass(frozen=True)
class Benchmark:
    """A finished benchmark.

    Attributes:
        name: 'train', 'predict' or 'prepare'.
        compared: what is timed and what it is compared with, in a sentence.
        synthetic: whether the rows are the synthetic twin's.
        config: the resolved config.
        sides: side -> what it is, in words.
        measured: side -> its measurements.
        comparisons: which sides are compared, and how well they agree.
        profile: of one of kjcm's steps, where it was asked for.
    """

    name: str
    compared: str
    synthetic: bool
    config: Mapping[str, Any]
    sides: Mapping[str, str]
    measured: Measured
    comparisons: Sequence[Comparison]
    profile: Mapping[str, Any] | None = None


def folder_to_fill(config: Mapping[str, Any]) -> Path:
    """Return `out`, before anything is measured.

    Raises:
        KjcmError: it holds a benchmark already.
    """
    out = Path(config["out"]).expanduser()
    there = [name for name in FILES if (out / name).exists()]
    if there and not config["overwrite"]:
        raise KjcmError(f"{out} holds {some(there)} already. Choose another out=DIR, or add overwrite=true.")
    return out


def write(out: Path, benchmark: Benchmark, measured_on: Mapping[str, Any]) -> None:
    """Write the picture and then bench.json into `out`, and print the table."""
    from kjcm.plot.style import png, svg

    record = record_of(benchmark, measured_on)
    figure = draw(record)
    (out / "bench.json").unlink(missing_ok=True)  # written last: a folder with it is whole
    for name, data in (("bench.png", png(figure)), ("bench.svg", svg(figure))):
        with atomic(out / name) as temporary:
            temporary.write_bytes(data)
    write_json(out / "bench.json", record)
    show(record, out)


def record_of(benchmark: Benchmark, measured_on: Mapping[str, Any]) -> dict[str, Any]:
    """Return what bench.json holds (docs/schemas/bench.schema.json)."""
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
                "ratio": (found := ratio(measured[one.ours], measured[one.alternative])).median,
                "spread": [found.low, found.high],
                "ratios": list(found.each),
                "agreement": dict(one.agreement),
            }
            for one in benchmark.comparisons
        ],
        "sides": {
            name: {
                "about": about,
                **medians(measured[name]),
                "measurements": [
                    {key: value for key, value in vars(one).items() if key != "made"} for one in measured[name]
                ],
            }
            for name, about in benchmark.sides.items()
        },
        "profile": benchmark.profile,
        "machine": dict(measured_on),
        "versions": {"kjcm": __version__, "python": platform.python_version(), **_versions()},
        "config": dict(benchmark.config),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that this machine does not have
            continue
    return found


def show(record: Mapping[str, Any], out: Path) -> None:
    """Print the sides and the ratios."""
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
            _figure(memory / 2**20 if memory is not None else None),
        )  # fmt: skip
    console.print(sides)
    ratios = Table("times as fast", "median", "least to greatest", "agreement")
    for one in record["comparisons"]:
        low, high = one["spread"]
        agreement = ", ".join(f"{key.replace('_', ' ')} {_said(value)}" for key, value in one["agreement"].items())
        ratios.add_row(one["name"], f"{one['ratio']:.2f}", f"{low:.2f} to {high:.2f}", agreement)
    if record["comparisons"]:
        console.print(ratios)
    if record["profile"]:
        console.print(*_profile(record["profile"]), sep="\n")
    console.print(f"results in {out}", soft_wrap=True)


def _profile(found: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the table of a step's operations, and what the step could be at best."""
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
        f"{found['milliseconds_per_step']:,.1f} ms a step under the profiler. At the rates measured here "
        f"{best['flop'] / 1e9:,.2f} GFLOP of matrix products ({best['flop_per_second'] / 1e9:,.0f} GFLOP/s) and "
        f"{best['bytes'] / 1e9:.2f} GB of the optimiser's memory ({best['bytes_per_second'] / 1e9:,.0f} GB/s) take "
        f"{best['milliseconds_per_step']:,.1f} ms."
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _said(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.4g}"


def draw(record: Mapping[str, Any]) -> "Figure":
    """Return horizontal bars of the sides' rows a second, with whiskers from the slowest repeat to the fastest."""
    from kjcm.plot.style import BLUE, INK, canvas, picture

    sides, comparisons = record["sides"], record["comparisons"]
    ours = {one["ours"] for one in comparisons} or set(sides)
    theirs = {one["alternative"] for one in comparisons}
    notes = {}  # how many times as fast: beside what there are several of
    for one in comparisons:
        if len(ours) > 1:
            notes[one["ours"]] = f"{one['ratio']:.1f} × {one['alternative']}"
        else:
            notes[one["alternative"]] = f"{one['ours']} {one['ratio']:.1f} ×"

    @picture
    def bars() -> "Figure":
        figure, axes = canvas(1.1 + 0.42 * len(sides), record["synthetic"])
        for place, (name, side) in enumerate(sides.items()):
            middle = side["rows_per_second"]
            each = [one["rows"] / one["seconds"] for one in side["measurements"]]
            whiskers = [[middle - min(each)], [max(each) - middle]]
            axes.barh(place, middle, height=0.62, color="#b9c3cc" if name in theirs else BLUE)
            axes.errorbar(middle, place, xerr=whiskers, color=INK, capsize=3, linewidth=1)
            label = "   ".join(filter(None, (_figure(middle), notes.get(name))))
            axes.annotate(label, (max(each), place), (7, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(sides)), list(sides))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"rows a second: median, slowest and fastest repeat\n{_where(record)}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x")
        axes.set_xlim(0, 1.3 * axes.dataLim.x1)
        return figure

    return bars()


def _where(record: Mapping[str, Any]) -> str:
    """Return the machine in words."""
    on = record["machine"]
    device = on["processor"] if on["device"].startswith("CPU") else on["device"]
    return f"{device}, threads: {on['threads']}" + ("" if on["quiet"] else ", not quiet")
