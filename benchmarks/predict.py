"""`benchmarks.predict`: a finished run's coding compared with Hugging Face's pipeline."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from benchmarks.command import PRECISIONS, PredictConfig
from benchmarks.device import clear, machine, peak_memory
from benchmarks.measuring import Measured, Measurement, alternate
from benchmarks.result import Benchmark, Comparison, file_to_write, write
from kjcm.coding.coder import Coder, resolve_precision
from kjcm.coding.rows import first_texts
from kjcm.engine.device import on_gpu, require_device
from kjcm.errors import KjcmError, counted
from kjcm.files import require_file
from kjcm.keys.composition import typed
from kjcm.run_folder.model_folder import Settings, finished_run, load_settings

BATCH = 64  # the pipeline's batch size
WARM_UP = 64  # texts to code before the clock starts: a device's first work is slow
PIPELINE, TOKENS = "pipeline", "kjcm from tokens"  # the sides besides one for each precision


class Top1(NamedTuple):
    """Each text's top-1 code: codes [texts], prob [texts]."""

    codes: NDArray[np.str_]
    prob: NDArray[np.float64]


class Side(NamedTuple):
    """A description, the texts to code, and a function of them that loads the model and returns the work to be timed."""

    about: str
    texts: list[str]
    set_up: Callable[[list[str]], Callable[[], Any]]


def measure(cfg: DictConfig) -> None:
    """Measure kjcm's coder in each precision and the pipeline in turn, and write bench.json into `out`.

    Raises:
        KjcmError: the run or the input is not usable, or `out` contains a benchmark.
    """
    config = typed(cfg, PredictConfig)
    require_device("accelerator", config.accelerator)
    file, run = file_to_write(config.out, config.overwrite), finished_run(config.run)
    settings, gpu = load_settings(run / "model"), on_gpu(config.accelerator)
    if settings.pooling != "cls":
        raise KjcmError(
            f"run={run}: transformers has no classifier with pooling={settings.pooling}, so its pipeline cannot code with "
            "this run. Give a run with model.pooling=cls."
        )
    texts = _texts(Path(config.input).expanduser(), config.rows, settings)
    precisions = _precisions(config.precisions, gpu)
    for precision in precisions:  # raises an error before anything is timed, and fills the run's caches
        _coder(run, config, precision)
    measured_on = machine(gpu)
    sides = {
        f"kjcm {name}": Side(_about(config, name), texts, partial(_kjcm, run, config, name)) for name in precisions
    }
    usual, different = resolve_precision("auto", gpu), list(dict.fromkeys(texts))
    if usual in precisions:
        from_tokens = partial(_kjcm, run, config, usual, from_tokens=True)
        sides[TOKENS] = Side(f"{_about(config, usual)}, without its tokenizer", different, from_tokens)
    about = f"Hugging Face pipeline, float32, batch_size={BATCH}, in the file's order"
    sides[PIPELINE] = Side(about, texts, partial(_pipeline, run, settings, gpu))
    measured = alternate({name: partial(_measured, side, gpu) for name, side in sides.items()}, config.repeats)
    compared = [name for name in sides if name not in (PIPELINE, TOKENS)]  # the pipeline's time includes its tokenizer
    benchmark = Benchmark(
        name="predict",
        compared=f"benchmarks.predict: {len(texts):,} texts, {len(different):,} of them different, "
        f"{counted(config.repeats, 'repeat')}",
        synthetic=settings.synthetic,
        config=asdict(config),
        machine=measured_on,
        sides={name: side.about for name, side in sides.items()},
        measured=measured,
        comparisons=[Comparison(name, PIPELINE, agreement(measured, name)) for name in compared],
    )
    write(file, benchmark)


def _precisions(names: list[str] | None, gpu: bool) -> list[str]:
    """Return the precisions to measure, the reference first."""
    if names is None:
        names = [name for name in PRECISIONS if name != "int8" or not gpu]
    return list(dict.fromkeys([PRECISIONS[0], *names]))


def _texts(source: Path, rows: int | None, settings: Settings) -> list[str]:
    """Return the texts of a file's first rows, without the empty ones.

    Raises:
        KjcmError: a column is missing, or all texts are empty.
    """
    texts = list(filter(None, first_texts(require_file(source, "input file"), rows, settings)))
    if not texts:
        raise KjcmError(f"{source}: no row has a text. Check the columns of the run's texts.")
    return texts


def _measured(side: Side, gpu: bool) -> Measurement:
    """Set up a side and time its work."""
    begin = time.perf_counter()
    clear(gpu)
    work = side.set_up(side.texts)
    ready = time.perf_counter()
    result = work()  # on the CPU, so the device is done
    return Measurement(
        seconds=time.perf_counter() - ready,
        rows=len(side.texts),
        setup_seconds=ready - begin,
        peak_memory=peak_memory(gpu),
        result=result,
    )


def _compiled(config: PredictConfig, precision: str) -> bool:
    return config.compile and precision != "int8"


def _about(config: PredictConfig, precision: str) -> str:
    return f"kjcm predict, precision={precision}{', compile=true' if _compiled(config, precision) else ''}"


def _coder(run: Path, config: PredictConfig, precision: str) -> Coder:
    compiled = _compiled(config, precision)
    return Coder(run / "model", config.batch_size, config.accelerator, precision, compiled=compiled)


def _kjcm(
    run: Path, config: PredictConfig, precision: str, texts: list[str], *, from_tokens: bool = False
) -> Callable[[], Any]:
    """Return the work of kjcm's coder on texts, or on the batches that its tokenizer makes of them."""
    coder = _coder(run, config, precision)
    for few in (texts[:WARM_UP], texts[:1]):  # torch.compile compiles the shape of a single text apart
        coder.code(few)
    if from_tokens:
        return partial(coder.probabilities, coder.ready(texts))

    def work() -> Top1:
        probability = coder.code(texts)
        return Top1(np.array(coder.settings.classes)[probability.argmax(axis=1)], probability.max(axis=1))

    return work


def _pipeline(run: Path, settings: Settings, gpu: bool, texts: list[str]) -> Callable[[], Top1]:
    """Return the work of transformers' pipeline with the run's model folder, which transformers loads without kjcm."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(run / "model"), device=0 if gpu else -1)

    def code(some: list[str]) -> Top1:
        given = [settings.prefix + text for text in some]
        found = classify(given, batch_size=BATCH, truncation=True, max_length=settings.max_length)
        return Top1(np.array([one["label"] for one in found]), np.array([one["score"] for one in found]))

    code(texts[:WARM_UP])
    return partial(code, texts)


def agreement(measured: Measured, ours: str) -> dict[str, float]:
    """Return how near kjcm's side and the pipeline are to kjcm in float32: equal codes, mean difference of probability."""
    exact: Top1 = measured[f"kjcm {PRECISIONS[0]}"][0].result
    found = {}
    for side, name in (("ours", ours), ("alternative", PIPELINE)):
        top: Top1 = measured[name][0].result
        found[f"equal_codes_{side}"] = float(np.mean(top.codes == exact.codes))
        found[f"probability_difference_{side}"] = float(np.mean(np.abs(top.prob - exact.prob)))
    return found


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.predict")
