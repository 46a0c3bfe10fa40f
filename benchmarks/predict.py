"""`benchmarks.predict`: a finished run's coding compared with Hugging Face's pipeline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from benchmarks.device import clear, machine, peak_memory
from benchmarks.measuring import Measured, Measurement, alternate
from benchmarks.result import Benchmark, Comparison, folder_to_fill, write
from kjcm.coding.coder import Coder, resolve_precision
from kjcm.coding.rows import first_texts
from kjcm.engine.device import on_gpu, require_device
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import require_file
from kjcm.runs.model_folder import Settings, finished_run, load_settings

EXACT = "32-true"  # what the others are held against
PRECISIONS = (EXACT, "bf16", "int8")
BATCH = 64  # of the pipeline
TOKENS = "kjcm from tokens"  # the side that is timed without its tokenizer
WARM_UP = 64  # texts coded before the clock starts: a device's first work is slow


@dataclass(frozen=True)
class First:
    """The first code of each text: codes [texts], prob [texts]."""

    codes: NDArray[np.object_]
    prob: NDArray[np.float64]


def measure(cfg: DictConfig) -> None:
    """Measure kjcm's coder in each precision and the pipeline in turn; write bench.json, bench.png and bench.svg into `out`.

    Raises:
        KjcmError: run or input are not usable, or `out` holds a benchmark.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    require_device("accelerator", config["accelerator"])
    out, run = folder_to_fill(config), finished_run(config["run"])
    settings, gpu = load_settings(run / "model"), on_gpu(config["accelerator"])
    if settings.pooling != "cls":
        raise KjcmError(
            f"run={run}: transformers has no classifier with pooling={settings.pooling}, so its pipeline cannot code with "
            "this run. Give a run with model.pooling=cls."
        )
    texts = _texts(Path(config["input"]).expanduser(), config["rows"], settings)
    precisions = _precisions(config["precisions"], gpu)
    for precision in precisions:  # says now what is missing, and makes what a run keeps
        _coder(run, config, precision)
    measured_on = machine(gpu)
    sides: dict[str, Callable[[], Measurement]] = {
        f"kjcm {precision}": partial(_measured, partial(_kjcm, run, config, precision, texts), len(texts), gpu)
        for precision in precisions
    }
    usual = resolve_precision("auto", gpu)
    if usual in precisions:
        sides[TOKENS] = partial(_measured, partial(_from_tokens, run, config, usual, texts), len(set(texts)), gpu)
    sides["pipeline"] = partial(_measured, partial(_pipeline, run, settings, gpu, texts), len(texts), gpu)
    measured = alternate(sides, config["repeats"])
    compiled = ", compile=true" if config["compile"] else ""
    about = {
        f"kjcm {name}": f"kjcm predict, precision={name}{compiled if name != 'int8' else ''}" for name in precisions
    }
    if TOKENS in sides:
        about[TOKENS] = f"the same, precision={usual}{compiled}, once its texts are tokens in batches"
    about["pipeline"] = f"Hugging Face pipeline, float32, batch_size={BATCH}, in the file's order"
    # the pipeline's time has the tokenizer's in it
    whole = [name for name in sides if name not in ("pipeline", TOKENS)]
    comparisons = [Comparison(name, "pipeline", agreement(measured, name)) for name in whole]
    compared = (
        f"benchmarks.predict: {len(texts):,} texts, {len(set(texts)):,} of them different, {config['repeats']} repeats"
    )
    benchmark = Benchmark("predict", compared, settings.synthetic, config, about, measured, comparisons)
    write(out, benchmark, measured_on)


def _precisions(names: list[str] | None, gpu: bool) -> list[str]:
    """Return float32, which the others are held against, and the others."""
    if names is None:
        names = [name for name in PRECISIONS if name != "int8" or not gpu]
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise ConfigError(f"precisions: no {some(unknown)}; choose among {', '.join(PRECISIONS)}.")
    return list(dict.fromkeys([EXACT, *names]))


def _texts(source: Path, rows: int | None, settings: Settings) -> list[str]:
    """Return the texts of a file's first rows, those without text left out.

    Raises:
        KjcmError: a column is missing, or there is no text.
    """
    texts = first_texts(require_file(source, "input file"), rows, settings)
    if not any(texts):
        raise KjcmError(f"{source}: there is no text to code in it. Check the columns that the run's texts come from.")
    return list(filter(None, texts))


def _measured(make: Callable[[], Callable[[], First | None]], rows: int, gpu: bool) -> Measurement:
    """Have a side made ready, which codes a few texts, and time its work on all `rows`."""
    begin = time.perf_counter()
    clear(gpu)
    work = make()
    ready = time.perf_counter()
    made = work()  # on the CPU when it returns
    return Measurement(
        seconds=time.perf_counter() - ready,
        rows=rows,
        setup_seconds=ready - begin,
        peak_memory=peak_memory(gpu),
        made=made,
    )


def _coder(run: Path, config: dict[str, Any], precision: str) -> Coder:
    compiled = config["compile"] and precision != "int8"
    return Coder(run, config["batch_size"], config["accelerator"], precision, compiled=compiled)


def _warm(run: Path, config: dict[str, Any], precision: str, texts: list[str]) -> Coder:
    coder = _coder(run, config, precision)
    for first in (texts[:WARM_UP], texts[:1]):  # compiled, a single text has a shape of its own
        coder.code(first)
    return coder


def _kjcm(run: Path, config: dict[str, Any], precision: str, texts: list[str]) -> Callable[[], First]:
    coder = _warm(run, config, precision, texts)
    classes = np.array(coder.settings.classes, dtype=object)

    def work() -> First:
        probability = coder.code(texts)
        return First(classes[probability.argmax(axis=1)], probability.max(axis=1))

    return work


def _from_tokens(run: Path, config: dict[str, Any], precision: str, texts: list[str]) -> Callable[[], None]:
    """As `_kjcm`, with the texts, equal ones once, tokens in batches already."""
    coder = _warm(run, config, precision, texts)
    ready = coder.ready(list(dict.fromkeys(texts)))

    def work() -> None:
        coder.probabilities(ready)

    return work


def _pipeline(run: Path, settings: Settings, gpu: bool, texts: list[str]) -> Callable[[], First]:
    """Return transformers' pipeline over the run's model folder, which is one that transformers loads by itself."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(run / "model"), device=0 if gpu else -1)

    def code(some: list[str]) -> First:
        given = [settings.prefix + text for text in some]
        found = classify(given, batch_size=BATCH, truncation=True, max_length=settings.max_length)
        return First(np.array([one["label"] for one in found], dtype=object), np.array([one["score"] for one in found]))

    code(texts[:WARM_UP])
    return partial(code, texts)


def agreement(measured: Measured, ours: str) -> dict[str, float]:
    """Return how near our side and the pipeline are to float32: share of equal codes, mean difference of probability."""
    exact: First = measured[f"kjcm {EXACT}"][0].made
    found = {}
    for side, name in (("ours", ours), ("alternative", "pipeline")):
        first: First = measured[name][0].made
        found[f"equal_codes_{side}"] = float(np.mean(first.codes == exact.codes))
        found[f"probability_difference_{side}"] = float(np.mean(np.abs(first.prob - exact.prob)))
    return found


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.predict")
