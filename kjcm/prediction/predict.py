"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay.

A hidden folder next to the output stores each chunk's codes until the output is complete. After a kill the same command
resumes: it reads the input again and codes only the missing chunks.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kjcm import __version__
from kjcm.coding.chunks import Store, code_shard, coded_chunks
from kjcm.coding.ensemble import device_of
from kjcm.coding.parts import Merged, Parts, Shard, parts_of, shard_from, shard_parts, shards_of
from kjcm.coding.run_rules import say
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import digest, require_file, write_json
from kjcm.hub.models import model_folder
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.prediction.job import Job, columns_of, job_of
from kjcm.prediction.progress import Progress
from kjcm.read.options import PLAIN
from kjcm.records import read_json
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.rules import DECISIONS, VERSION
from kjcm.write.table import OUTPUTS, writer

if TYPE_CHECKING:
    from kjcm.prediction.cluster import RayChunks

# keys that coded rows depend on
KEYS = (
    "encoding", "sheet", "header_row", "top_k", "chunk_rows", "batch_size", "compile", "formulas", "triage", "levels", "explain",
    "unseen_levels", "all_probabilities",
)  # fmt: skip

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
    folder, target = model_folder(config.run), Path(config.output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    if config.all_probabilities and target.suffix.lower() != ".parquet":
        raise ConfigError(
            f"all_probabilities=true: {target.suffix} is not written with a column for each class. Use output=FILE.parquet."
        )
    source = require_file(config.input, "input file")
    settings = load_settings(folder)
    columns = columns_of(settings, config)
    what = _what(folder, source, config, columns)
    config = replace(config, precision=what["precision"]) if code_on_ray else config
    # the process that starts Ray codes nothing, and may have no GPU
    driver_config = replace(config, accelerator="cpu", compile=False) if code_on_ray else config
    coding = partial(job_of, driver_config, folder, source, settings, columns)
    if config.shard:
        if config.merge:
            raise ConfigError("shard and merge: code the shards first, then merge them. Give one of the two.")
        return _code_shard(coding, target, shard_from(config.shard), what, overwrite=config.overwrite)
    if config.merge and not config.overwrite:
        Parts(target).require_unwritten()
    shards = shards_of(target, config.merge) if config.merge else []
    if shards:  # a machine without a GPU may merge what GPUs have coded
        what |= {name: read_json(shards[0].made_by)[name] for name in ("precision", "accelerator")}
        if not shards[0].is_of(what):
            raise KjcmError(
                f"merge={config.merge}: the shards have another input or other keys. Use the shards' command."
            )
    with parts_of(target, what, config.overwrite) as parts:
        if not parts.is_complete():  # else killed before output and note were in place
            job, begin = coding(), time.perf_counter()
            coded = code_on_ray(job, config, parts) if code_on_ray else None
            record = _code(job, parts, coded or (Merged(shards) if shards else parts))
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


def _what(folder: Path, source: Path, config: PredictConfig, columns: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what coded rows depend on; stored chunks are reused only if all of it matches."""
    precision, gpu = device_of(folder, config.accelerator, config.precision, compiled=config.compile)
    return {
        "kjcm": __version__,
        "rules": VERSION,
        "input": digest(source),
        "model": digest(folder),
        "columns": dict(columns),
        "precision": precision,
        "accelerator": "gpu" if gpu or (config.ray.engine, config.accelerator) == ("ray", "gpu") else "cpu",
        **{key: value for key, value in asdict(config).items() if key in KEYS},
    }


def _code(job: Job, parts: Parts, store: Store) -> dict[str, Any]:
    """Write the coded file and return its record; the store has the chunks."""
    resumed = 0
    counts = np.zeros(len(DECISIONS), np.int64)
    given, decider, formulas = job.input(parts.target), job.decider, job.config.formulas
    with (
        closing(Progress(given.rows)) as progress,
        closing(coded_chunks(given.chunks, job.reading, job.coder, decider, store)) as chunks,
        parts.output() as file,
        writer(file, job.source, decider.added, formulas, job.reading.options or PLAIN) as out,
    ):
        for chunk in chunks:
            out.write(chunk.frame)
            resumed += len(chunk.frame) if chunk.stored else 0
            counts += np.bincount(chunk.decision, minlength=len(DECISIONS))
            progress.add(len(chunk.frame), coded=not chunk.stored)
    return {
        "classes_hash": job.settings.classes_hash,
        "synthetic": job.settings.synthetic,
        "rows": progress.done,
        "rows_resumed": resumed,
        "decisions": {name: int(count) for name, count in zip(DECISIONS, counts, strict=True)},
        "top_k": decider.top_k,
        **({"classes": decider.every} if decider.every else {}),
        "triage": job.outlook,
    }


def _code_shard(
    coding: Callable[[], Job], target: Path, shard: Shard, what: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Code the chunks of a shard, which wait next to the output for the merge."""
    with shard_parts(target, shard, what, overwrite) as parts:
        if not parts.about.is_file():
            job = coding()
            given = job.input(target)
            found = code_shard(given.chunks, job.reading, job.coder, job.decider, parts, shard)
            with closing(Progress(given.rows // shard.count)) as progress, closing(found) as chunks:
                for rows, stored in chunks:
                    progress.add(rows, coded=not stored)
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
    shares = [f"{name} {count:,} ({100 * count / rows:.0f} %)" for name, count in record["decisions"].items() if count]
    if shares:
        log.info("decisions: %s", ", ".join(shares))
    say(record["triage"])
    if record["synthetic"]:
        log.info("the model was trained on SYNTHETIC data: its codes are for trying kjcm out, not for use")
