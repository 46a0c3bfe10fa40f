"""Code the chunks of a file on Ray: one task reads, a pool of workers codes, and other tasks store the coded chunks.

Ray's dataset has a row for each chunk, and Ray's checkpoint contains the numbers of the stored chunks. After a kill Ray
reads the input again and codes only the chunks that its checkpoint lacks.
"""

import logging
import os
import pickle
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reads these variables when it is imported or started
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.checkpoint import CheckpointConfig

from kjcm.coding.chunks import coded_texts, new_texts
from kjcm.coding.decisions import Coded
from kjcm.coding.parts import Parts, from_npz, to_npz
from kjcm.errors import ConfigError, DiskError, KjcmError, WorkerError, first_line
from kjcm.keys.coding import PredictConfig, RayConfig
from kjcm.prediction.job import Job, model_of
from kjcm.prediction.progress import Progress
from kjcm.read.options import PLAIN
from kjcm.read.table import read_chunks
from kjcm.run_folder.model_folder import Settings
from kjcm.triage.rules import Triage

ID = "chunk"  # the column of the chunks' numbers
CODED = "coded"  # this file says that all chunks are stored
ANSWER = 5.0  # seconds that a cluster has to answer
LOOK = 5.0  # seconds between two looks at the checkpoint
STARTS = 3  # attempts to start Ray, whose processes have 30 seconds, too few on a busy machine
RETRIES = 10  # of a chunk: one that kills every worker must end the command

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class RayChunks:
    """The chunks that Ray has coded, as a store from which an output is written.

    Attributes:
        folder: Ray's Parquet files and checkpoint.
        files: number of a chunk -> its file.
        rows_resumed: rows of the chunks that earlier processes coded.
    """

    folder: Path
    files: Mapping[int, Path]
    rows_resumed: int

    def read(self, number: int, texts: int) -> Coded:
        """Return how a chunk's new texts were coded.

        Raises:
            DiskError: this is missing or damaged. The chunk is removed, so that Ray codes it again.
        """
        with suppress(Exception):
            rows = pq.read_table(self.files[number]).to_pylist()
            found = from_npz(BytesIO(next(row["coded"] for row in rows if row[ID] == number)), texts)
            if found is not None:
                return found
        damaged = [self.folder / CODED, *([self.files[number]] if number in self.files else [])]
        for file in [*damaged, *(file for file in _checkpoint(self.folder) if number in _numbers(file))]:
            file.unlink(missing_ok=True)
        raise DiskError(f"{self.folder}: chunk {number} is missing or damaged. Run the same command again to code it.")

    def write(self, number: int, coded: Coded) -> None:
        """Nothing: every chunk is stored."""


def require_address(address: str) -> None:
    """Raise ConfigError if ray.address has another form than it may have."""
    if not re.fullmatch(r"local|auto|[^\s/:]+:\d{1,5}", address):
        raise ConfigError(f"ray.address={address}: give local, auto, or the address of a cluster's head as HOST:6379.")


def code_on_ray(job: Job, config: PredictConfig, parts: Parts) -> RayChunks:
    """Code the chunks that no earlier process has coded, and return all chunks.

    Args:
        job: the coding.
        config: the workers' keys.
        parts: the coding's folder.

    Raises:
        KjcmError: the input is not usable, Ray does not start or answer, or a worker fails.
    """
    folder = parts.ray
    before = _resumed(folder)
    coded = folder / CODED
    if not coded.is_file():
        _run(job, config, parts, len(before))
        parts.require_held()
        folder.mkdir(exist_ok=True)
        coded.touch()  # if the command is killed while it writes the output, the next one does not start Ray
    stored = _stored(folder)
    log.info("All chunks are coded. Writing %s.", parts.target)
    rows_resumed = sum(rows for number, (_, rows) in stored.items() if number in before)
    return RayChunks(folder, {number: file for number, (file, _) in stored.items()}, rows_resumed)


def _run(job: Job, config: PredictConfig, parts: Parts, resumed: int) -> None:
    """Start Ray or connect to it, code the chunks, and show the progress; `resumed`: the number of stored chunks."""
    given = job.input(parts.target)
    rows = given.rows
    next(given.chunks, None)  # checks the columns
    del given  # closes the input
    with (
        closing(Progress(rows)) as progress,
        ThreadPoolExecutor(1, "ray") as thread,
        _cluster(config.ray, gpu=config.accelerator == "gpu"),
    ):
        progress.add(min(resumed * config.chunk_rows, rows), coded=False)
        coding = thread.submit(_code, job, config, parts.ray)
        while not wait([coding], LOOK).done:
            parts.require_held()
            done = min(len(_checkpoint(parts.ray)) * config.chunk_rows, rows)
            progress.add(max(0, done - progress.done), coded=True)
        try:
            coding.result()
        except Exception as error:
            raise kjcm_error(error) from None


def _resumed(folder: Path) -> set[int]:
    """Return the numbers of the chunks that Ray will skip; drop missing chunks from its checkpoint."""
    stored, skipped = _stored(folder), set()
    for file in _checkpoint(folder):
        numbers = set(_numbers(file))
        if numbers <= stored.keys():
            skipped |= numbers
        else:
            file.unlink(missing_ok=True)
            (folder / CODED).unlink(missing_ok=True)
    return skipped


def _stored(folder: Path) -> dict[int, tuple[Path, int]]:
    """Return number of a stored chunk -> its file and its number of rows."""
    found = {}
    for file in folder.glob("rows/*.parquet"):
        with suppress(pa.ArrowException, OSError):  # a damaged file: its chunks are missing
            for row in pq.read_table(file, columns=[ID, "rows"]).to_pylist():
                found[row[ID]] = file, row["rows"]
    return found


def _checkpoint(folder: Path) -> list[Path]:
    """Return the files of Ray's checkpoint, without those whose chunks may not be stored."""
    return [file for file in folder.glob("checkpoint/*.parquet") if ".pending." not in file.name]


def _numbers(file: Path) -> list[int]:
    """Return the numbers of a file of Ray's checkpoint; remove a damaged file, on which Ray would fail."""
    try:
        return list(pq.read_table(file)[ID].to_pylist())
    except (pa.ArrowException, KeyError):
        file.unlink()
        return []


def _code(job: Job, config: PredictConfig, folder: Path) -> None:
    """Run the dataset of the chunks."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # a block is a row, so a worker takes one chunk at a time
    context.enable_progress_bars = context.print_on_execution_start = False
    context.use_datasource_v2 = False  # it starts 32 processes to read the checkpoint's files
    folder = folder.absolute()
    context.checkpoint_config = CheckpointConfig(ID, str(folder / "checkpoint"), delete_checkpoint_on_success=False)
    # Reading and storing need little time: without a core of their own they never wait for one that the workers have.
    chunks = ray.data.read_datasource(_Chunks(job), override_num_blocks=1, num_cpus=0)
    coded = chunks.map_batches(
        _Worker,
        fn_constructor_args=(config, job.folder.absolute(), job.settings, job.decider.triage),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=config.ray.workers),
        num_cpus=config.ray.cpus,
        num_gpus=1 if config.accelerator == "gpu" else None,
        max_task_retries=RETRIES,
    )
    coded.write_parquet(str(folder / "rows"), ray_remote_args={"num_cpus": 0})


class _Chunks(ray.data.Datasource):  # type: ignore[misc]
    """The input: a row for each chunk with its number, its number of rows, and its new texts.

    Args:
        job: the coding.
    """

    def __init__(self, job: Job) -> None:
        self.reading, self.chunk_rows, self.source = job.reading, job.config.chunk_rows, job.source.absolute()

    def estimate_inmemory_data_size(self) -> None:
        """Return None: not known."""

    def get_read_tasks(self, parallelism: int, *more: Any, **options: Any) -> list[ray.data.ReadTask]:
        """Return one task, because which texts are new depends on all chunks before."""
        about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(self.read, about)]

    def read(self) -> Iterator[pa.Table]:
        """Yield the rows."""
        if not self.source.is_file():
            raise DiskError(f"{self.source}: {_host()} of the Ray cluster does not have the input. Use a shared disk.")
        frames = read_chunks(self.source, self.chunk_rows, self.reading.options or PLAIN)
        for number, (rows, *found) in enumerate(new_texts(frames, self.reading)):
            yield pa.table({ID: [number], "rows": [rows], "texts": [pickle.dumps(found)]})


class _Worker:
    """A process that codes chunks.

    Args:
        config: the keys.
        folder: of the model.
        settings: of the model.
        triage: the rules.
    """

    def __init__(self, config: PredictConfig, folder: Path, settings: Settings, triage: Triage) -> None:
        self.failure = ""  # raised with the first chunk, because Ray turns an error in __init__ into text
        try:
            if not folder.is_dir():
                raise DiskError(f"there is no folder {folder}. Use a shared disk.")
            self.coder, self.decider = model_of(config, folder, settings, triage)
        except KjcmError as error:
            self.failure = str(error)

    def __call__(self, chunk: pa.Table) -> pa.Table:
        """Return a chunk with its coded texts."""
        if self.failure:
            raise WorkerError(f"A worker on {_host()} cannot start: {self.failure}")
        (texts,) = chunk["texts"].to_pylist()
        try:
            new, manages = pickle.loads(texts)
            coded = coded_texts(new, manages, self.coder, self.decider)
        except Exception as error:  # its message may have texts
            raise WorkerError(
                f"A worker on {_host()} failed ({type(error).__name__}). Run the same command again to resume. To see the "
                "whole error, use engine=local."
            ) from None
        return chunk.drop_columns("texts").append_column("coded", pa.array([to_npz(coded)]))


def _host() -> str:
    return f"the machine {socket.gethostname()}"


@contextmanager
def _cluster(config: RayConfig, *, gpu: bool) -> Iterator[None]:
    """Start Ray on this machine, or connect to a cluster; disconnect at the end."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if config.address == "local":
            # one core more than the workers need is for the actor that filters by the checkpoint
            cores = config.workers * config.cpus + 1
            _start(num_cpus=cores, num_gpus=None if gpu else 0, include_dashboard=False, **quiet)
        else:
            if config.address != "auto":
                _require_answer(config.address)
            ray.init(address=config.address, **quiet)
    except KjcmError:
        raise
    except Exception as error:
        ray.shutdown()
        raise WorkerError(
            f"ray.address={config.address}: Ray did not start or connect ({type(error).__name__}: {first_line(error)}). "
            "Check the address and `ray status`."
        ) from None
    try:
        _require_room(config, gpu=gpu)
        yield
    finally:
        ray.shutdown()


def _start(**options: Any) -> None:
    """Start Ray on this machine."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", **options)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


def _require_answer(address: str) -> None:
    """Raise an error if nothing answers at an address; Ray would wait for long."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise WorkerError(
            f"ray.address={address}: nothing answers there ({first_line(error)}). Check the address and `ray status`."
        ) from None


def _require_room(config: RayConfig, *, gpu: bool) -> None:
    """Compare the number of workers with those that fit on the machines there are.

    Raises:
        WorkerError: this machine has too few GPUs, and no other machine will come.
    """
    needed = {"CPU": config.cpus} | ({"GPU": 1} if gpu else {})
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    room = sum(int(min(machine.get(name, 0) // count for name, count in needed.items())) for machine in machines)
    if config.address == "local":
        if room < config.workers:
            raise WorkerError(
                f"ray.workers={config.workers}: each worker needs a GPU, and this machine has {room}. Set ray.workers to the "
                "number of GPUs, or use accelerator=cpu."
            )
        if config.workers * config.cpus > (cores := os.cpu_count() or 1):
            log.warning(
                "ray.workers=%d with ray.cpus=%d need more than this machine's %d cores, so they slow each other down.",
                config.workers, config.cpus, cores,
            )  # fmt: skip
    elif room < config.workers:
        log.warning(
            "ray.workers=%d: the Ray cluster's machines have room for %d with ray.cpus=%d%s. The others wait for new machines.",
            config.workers, room, config.cpus, " and a GPU each" if gpu else "",
        )  # fmt: skip


def kjcm_error(error: BaseException) -> KjcmError:
    """Return kjcm's error that is the cause of Ray's error, or one that names the kind of Ray's."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, ray.exceptions.RayError) and isinstance(cause, KjcmError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    return WorkerError(
        f"Ray failed ({type(error).__name__}). Run the same command again to resume. If it fails again, use engine=local."
    )
