"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay.

A hidden folder next to the output stores each chunk's codes until the output is complete. After a kill the same command
resumes: it reads the input again and codes only the missing chunks.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm import __version__
from kjcm.coding.chunks import Store, code_shard, coded_chunks
from kjcm.coding.ensemble import device_of
from kjcm.coding.parts import Merged, Parts, Shard, parts_of, shard_from, shard_parts, shards_of
from kjcm.coding.run_rules import index_path, say
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import digest, require_file, require_no_input, write_json
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.prediction.job import Job, Model, jobs_of, models_of
from kjcm.prediction.progress import Progress
from kjcm.read.options import PLAIN
from kjcm.records import read_json
from kjcm.run_folder.model_folder import UNVALIDATED
from kjcm.triage.rules import DECISIONS, INDEX, VERSION
from kjcm.write.table import OUTPUTS, Added, writer

if TYPE_CHECKING:
    from kjcm.prediction.cluster import RayChunks

# keys that coded rows depend on
KEYS = (
    "encoding", "sheet", "header_row", "top_k", "chunk_rows", "batch_size", "compile", "formulas", "triage", "levels", "explain",
    "unseen_levels", "all_probabilities",
)  # fmt: skip

SECOND = "second"  # the record's entry of the second run

log = logging.getLogger("kjcm")


def predict(cfg: DictConfig) -> None:
    """Write `input` with codes and decisions to `output`, and a record of model and rules to `output`.json.

    Raises:
        KjcmError: the run is not finished, the input is not usable, or the output exists.
    """
    began = time.perf_counter()
    config = typed(cfg, PredictConfig)
    code_on_ray = ray_coding(config) if config.ray.engine == "ray" else None
    if code_on_ray and config.accelerator == "auto":
        config = replace(config, accelerator="cpu")
    if not code_on_ray or config.ray.address == "local":  # else only the cluster's machines need GPUs
        require_device("accelerator", config.accelerator)
    models, target = models_of(config), Path(config.output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    if config.all_probabilities and target.suffix.lower() != ".parquet":
        raise ConfigError(
            f"all_probabilities=true: {target.suffix} is not written with a column for each class. Use output=FILE.parquet."
        )
    source = require_file(config.input, "input file")
    indexes = [index_path(model.config.triage, model.folder) for model in models]
    require_no_input(target, [source, *indexes, *(model.folder for model in models)])
    content = digest(source)
    what = _what(models[0], content)
    if len(models) > 1:
        what[SECOND] = _what(models[1], content)
    if code_on_ray:
        config = replace(config, precision=what["precision"])
        # the process that starts Ray codes nothing, and may have no GPU
        models = [replace(models[0], config=replace(config, accelerator="cpu", compile=False))]
    coding = partial(jobs_of, models, source)
    if config.shard:
        if config.merge:
            raise ConfigError("shard and merge: code the shards first, then merge them. Give one of the two.")
        return _code_shard(coding, target, shard_from(config.shard), what, overwrite=config.overwrite)
    if config.merge and not config.overwrite:
        Parts(target).require_unwritten()
    shards = shards_of(target, config.merge) if config.merge else []
    if shards:  # a machine without a GPU may merge what GPUs have coded
        made_by = read_json(shards[0].made_by)
        for own, theirs in ((what, made_by), (what.get(SECOND, {}), made_by.get(SECOND, {}))):
            own |= {name: theirs[name] for name in ("precision", "accelerator") if name in theirs}
        if not shards[0].is_of(what):
            raise KjcmError(
                f"merge={config.merge}: the shards have another input or other keys. Use the shards' command."
            )
    with parts_of(target, what, config.overwrite) as parts:
        if not parts.is_complete():  # else killed before output and note were in place
            jobs, begin = coding(), time.perf_counter()
            coded = code_on_ray(jobs[0], config, parts) if code_on_ray else None
            store = Merged(shards) if shards else parts
            record = _code(jobs, parts, [coded] if coded else [store, store.second][: len(jobs)])
            record |= {"rows_resumed": coded.rows_resumed} if coded else {}
            record |= {"seconds": round(time.perf_counter() - begin, 3), "precision": what["precision"]}
            record |= {"seconds_with_loading": round(time.perf_counter() - began, 3)}
            parts.finish({"run": config.run, **record, "made_by": what})
        record = parts.place()
    for shard in shards:
        shard.remove()
    _say(record, target)


def ray_coding(config: PredictConfig) -> "Callable[[Job, PredictConfig, Parts], RayChunks]":
    """Return the function that codes on Ray.

    Raises:
        ConfigError: Ray is not installed, its address has no valid form, or another key does not fit.
    """
    if config.shard or config.merge:
        raise ConfigError("engine=ray: Ray distributes the chunks itself. Leave shard and merge out.")
    if config.accelerator == "gpu" and config.precision == "auto":
        raise ConfigError("engine=ray accelerator=gpu: only the workers have GPUs. Set precision=bf16 or 32-true.")
    try:
        from kjcm.prediction.cluster import code_on_ray, require_address
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("ray"):
            raise
        raise ConfigError("engine=ray needs Ray: pip install 'kjcm[ray]'.") from None
    require_address(config.ray.address)
    return code_on_ray


def _what(model: Model, content: str) -> dict[str, Any]:
    """Return what coded rows depend on, `content` being the input's digest; chunks are reused only if all of it matches."""
    config = model.config
    precision, gpu = device_of(model.folder, config.accelerator, config.precision, compiled=config.compile)
    index = index_path(config.triage, model.folder)
    return {
        "kjcm": __version__,
        "rules": VERSION,
        "input": content,
        "model": digest(model.folder),
        "prefix": model.prefix,
        "columns": dict(model.columns),
        "precision": precision,
        "accelerator": "gpu" if gpu or (config.ray.engine, config.accelerator) == ("ray", "gpu") else "cpu",
        **({"index": digest(require_file(index, "index of job titles"))} if index else {}),
        **{key: value for key, value in asdict(config).items() if key in KEYS},
    }


def _code(jobs: Sequence[Job], parts: Parts, stores: Sequence[Store]) -> dict[str, Any]:
    """Write the coded file and return its record; each job has a store of its chunks."""
    resumed, first = 0, jobs[0]
    counts = [np.zeros(len(DECISIONS), np.int64) for _ in jobs]
    added = [job.decider.added for job in jobs]
    every = Added(
        {name: label for one in added for name, label in one.labels.items()},
        [name for one in added for name in one.rounded],
    )
    with ExitStack() as stack:
        given = [job.input(parts.target) for job in jobs]
        progress = stack.enter_context(closing(Progress(given[0].rows)))
        streams = [
            stack.enter_context(closing(coded_chunks(own.chunks, job.reading, job.coder, job.decider, store)))
            for own, job, store in zip(given, jobs, stores, strict=True)
        ]
        file = stack.enter_context(parts.output())
        options = first.reading.options or PLAIN
        out = stack.enter_context(writer(file, first.source, every, first.config.formulas, options))
        for chunks in zip(*streams, strict=True):
            frames = [chunk.frame[list(one.labels)] for chunk, one in zip(chunks[1:], added[1:], strict=True)]
            out.write(pd.concat([chunks[0].frame, *frames], axis=1) if frames else chunks[0].frame)
            stored = all(chunk.stored for chunk in chunks)
            resumed += len(chunks[0].frame) if stored else 0
            for own, chunk in zip(counts, chunks, strict=True):
                own += np.bincount(chunk.decision, minlength=len(DECISIONS))
            progress.add(len(chunks[0].frame), coded=not stored)
    records = [_record(job, own) for job, own in zip(jobs, counts, strict=True)]
    record = {"rows": progress.done, "rows_resumed": resumed, **records[0]}
    if len(jobs) > 1:
        record[SECOND] = {"run": jobs[1].config.run, **records[1]}
    return record


def _record(job: Job, counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return what a run's model decided; counts: of DECISIONS."""
    return {
        "classes_hash": job.settings.classes_hash,
        "synthetic": job.settings.synthetic,
        **({"validation": UNVALIDATED} if job.settings.from_titles else {}),
        "decisions": {
            name: int(count)
            for place, (name, count) in enumerate(zip(DECISIONS, counts, strict=True))
            if place != INDEX or job.decider.index
        },
        "top_k": job.decider.top_k,
        **({"classes": job.decider.listed_classes} if job.decider.listed_classes else {}),
        "triage": job.outlook,
    }


def _code_shard(
    coding: Callable[[], Sequence[Job]], target: Path, shard: Shard, what: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Code the chunks of a shard, which wait next to the output for the merge."""
    with shard_parts(target, shard, what, overwrite) as parts:
        if not parts.about.is_file():
            jobs = coding()
            given = [job.input(target) for job in jobs]
            with ExitStack() as stack:
                progress = stack.enter_context(closing(Progress(given[0].rows // shard.count)))
                streams = [
                    stack.enter_context(
                        closing(code_shard(own.chunks, job.reading, job.coder, job.decider, store, shard))
                    )
                    for own, job, store in zip(given, jobs, (parts, parts.second)[: len(jobs)], strict=True)
                ]
                for chunks in zip(*streams, strict=True):
                    progress.add(chunks[0][0], coded=not all(stored for _, stored in chunks))
            parts.require_held()
            write_json(parts.about, {"rows": progress.done})
        rows = read_json(parts.about, {"rows": int})["rows"]
    log.info(
        "shard %d of %d: %s rows coded. When all shards are done, run the same command with merge=%d.",
        shard.number, shard.count, f"{rows:,}", shard.count,
    )  # fmt: skip


def _say(record: Mapping[str, Any], target: Path) -> None:
    """Log the result."""
    rows = record["rows"]
    spent = f"{record['seconds']:.1f} s ({record['seconds_with_loading']:.1f} s with loading)"
    log.info("%s rows coded in %s: %s", f"{rows:,}", spent, target)
    if record["rows_resumed"]:
        log.info("%s of them were coded before", f"{record['rows_resumed']:,}")
    _say_decisions(record, rows)
    if second := record.get(SECOND):
        log.info("second run %s:", second["run"])
        _say_decisions(second, rows)


def _say_decisions(record: Mapping[str, Any], rows: int) -> None:
    """Log what a run's model decided."""
    shares = [f"{name} {count:,} ({100 * count / rows:.0f} %)" for name, count in record["decisions"].items() if count]
    if shares:
        log.info("decisions: %s", ", ".join(shares))
    say(record["triage"])
    if "validation" in record:
        log.info("%s", record["validation"])
    if record["synthetic"]:
        log.info("the model was trained on SYNTHETIC data: its codes are for trying kjcm out, not for use")
