"""`benchmarks.prepare`: from survey file to tokens with an empty cache and with a filled one."""

import importlib
import tempfile
import time
from dataclasses import asdict

import numpy as np
from omegaconf import DictConfig

from benchmarks.command import PrepareConfig
from benchmarks.device import machine
from benchmarks.measuring import Measured, Measurement, alternate
from benchmarks.result import Benchmark, Comparison, file_to_write, write
from kjcm.errors import counted
from kjcm.keys.composition import typed
from kjcm.survey.rows import rows_of
from kjcm.training.train import tokens_of

LIBRARIES = (
    "torch",
    "transformers",
    "transformers.tokenization_utils_base",
    "tokenizers",
    "sentencepiece",
    "pyarrow.parquet",
)
ABOUT = {
    "cold": "build the cohort, train the tokenizer, tokenise the rows; with an empty cache",
    "warm": "the same, from the cache that the last cold measurement filled",
}


def measure(cfg: DictConfig) -> None:
    """Measure the preparation of a training, cold and warm in turn, and write bench.json into `out`.

    No other program builds this cohort, so there is no outside alternative.

    Raises:
        KjcmError: the input is not usable, or `out` contains a benchmark.
    """
    config = typed(cfg, PrepareConfig)
    file = file_to_write(config.out, config.overwrite)
    for library in LIBRARIES:
        importlib.import_module(library)
    measured_on = machine(gpu=False)
    with tempfile.TemporaryDirectory() as folder:
        caches: list[str] = []

        def cold() -> Measurement:
            caches.append(f"{folder}/{len(caches)}")
            return _prepared(config, caches[-1])

        measured = alternate({"cold": cold, "warm": lambda: _prepared(config, caches[-1])}, config.repeats)
    rows = measured["cold"][0].rows
    benchmark = Benchmark(
        name="prepare",
        compared=f"benchmarks.prepare: survey file to tokens, {rows:,} rows, {counted(config.repeats, 'repeat')}",
        synthetic=config.data.source == "synthetic",
        config=asdict(config),
        machine=measured_on,
        sides=ABOUT,
        measured=measured,
        comparisons=[Comparison("warm", "cold", agreement(measured))],
    )
    write(file, benchmark)


def _prepared(config: PrepareConfig, cache: str) -> Measurement:
    begin = time.perf_counter()
    rows = rows_of(config, test=True, cache=cache)
    _, tokens = tokens_of(config.tokenizer, config.model, cache, rows)
    seconds = time.perf_counter() - begin
    return Measurement(
        seconds=seconds,
        rows=sum(map(len, tokens.values())),
        tokens=sum(len(some.ids) for some in tokens.values()),
        result=(rows.cohort.cohort_hash, np.concatenate([some.ids for some in tokens.values()])),
    )


def agreement(measured: Measured) -> dict[str, bool]:
    """Return whether all measurements gave the same cohort and the same tokens."""
    hashes, ids = zip(*(one.result for side in measured.values() for one in side), strict=True)
    return {
        "same_cohort": len(set(hashes)) == 1,
        "same_tokens": all(np.array_equal(some, ids[0]) for some in ids),
    }


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.prepare")
