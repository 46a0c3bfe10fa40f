"""`benchmarks.serve`: a finished run's service under many clients, compared with one request at a time."""

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.command import ServeConfig
from benchmarks.device import machine
from benchmarks.measuring import Measured, Measurement, alternate
from benchmarks.result import Benchmark, Comparison, file_to_write, write
from kjcm.engine.device import on_gpu, require_device
from kjcm.errors import KjcmError, counted, require_columns
from kjcm.files import require_file
from kjcm.keys.composition import typed
from kjcm.read.cells import text_cells
from kjcm.read.table import read_chunks
from kjcm.run_folder.model_folder import finished_run, load_settings

HOST = "127.0.0.1"
START = 600.0  # most seconds until a service answers
WARM_UP = 32  # requests before the clock starts
ALONE = "one at a time"


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        port: where it listens.
        seconds: from the start of its process to its first answer.
    """

    port: int
    seconds: float


def measure(cfg: DictConfig) -> None:
    """Measure the service with and without batching, and one request at a time, and write bench.json into `out`.

    Raises:
        KjcmError: the run or the input is not usable, a service does not start, or `out` contains a benchmark.
    """
    config = typed(cfg, ServeConfig)
    require_device("accelerator", config.accelerator)
    file, run = file_to_write(config.out, config.overwrite), finished_run(config.run)
    settings, gpu = load_settings(run / "model"), on_gpu(config.accelerator)
    fields = [name for role in ("workplace", "position", "task") if (name := settings.columns.get(role))]
    bodies = _bodies(require_file(config.input, "input file"), fields, config.requests)
    measured_on = machine(gpu)
    many, unbatched = f"{config.clients} clients", f"{config.clients} clients, unbatched"
    with ExitStack() as stack:
        batched = stack.enter_context(_service(config, config.batch_rows, config.wait_ms))
        single = stack.enter_context(_service(config, 1, 0))
        sides = {many: (batched, config.clients), unbatched: (single, config.clients), ALONE: (single, 1)}
        for service in (batched, single):
            _sent(service, config.clients, bodies[:WARM_UP])
        measured = alternate({name: partial(_measured, *side, bodies) for name, side in sides.items()}, config.repeats)
    keys = f"batching.rows={config.batch_rows} batching.wait_ms={config.wait_ms:g}"
    one_each = "kjcm serve batching.rows=1 batching.wait_ms=0"
    benchmark = Benchmark(
        name="serve",
        compared=f"benchmarks.serve: {len(bodies):,} requests of one row, {counted(config.repeats, 'repeat')}",
        synthetic=settings.synthetic,
        config=asdict(config),
        machine=measured_on,
        sides={many: f"kjcm serve {keys}", unbatched: one_each, ALONE: f"{one_each}, one client"},
        measured=measured,
        comparisons=[Comparison(many, other, agreement(measured, many, other)) for other in (ALONE, unbatched)],
    )
    write(file, benchmark)


def _bodies(source: Path, fields: Sequence[str], requests: int) -> list[bytes]:
    """Return the bodies of requests for a file's first different rows; with fewer rows than requests they begin again.

    Raises:
        KjcmError: a column is missing, or the file has no row.
    """
    frame = next(read_chunks(source, requests))
    require_columns(source, frame.columns, fields)
    cells = zip(*(text_cells(frame[name])[0] for name in fields), strict=True)
    rows = [dict(zip(fields, cell, strict=True)) for cell in dict.fromkeys(cells)]
    if not rows:
        raise KjcmError(f"{source}: has no row.")
    bodies = [json.dumps({"rows": [row]}).encode() for row in rows]
    return [bodies[number % len(bodies)] for number in range(requests)]


@contextmanager
def _service(config: ServeConfig, rows: int, wait_ms: float) -> Iterator[Service]:
    """Start `kjcm serve` in a process of its own, yield it when it answers, and stop it.

    Raises:
        KjcmError: it does not start.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = int(free.getsockname()[1])
    words = {
        "run": config.run, "port": port, "accelerator": config.accelerator, "precision": config.precision,
        "batching.rows": rows, "batching.wait_ms": wait_ms,
    }  # fmt: skip
    begin = time.perf_counter()
    command = [sys.executable, "-m", "kjcm", "serve", *(f"{key}={value}" for key, value in words.items())]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while not _answers(port):
                if process.poll() is not None or time.perf_counter() - begin > START:
                    log.seek(0)
                    raise KjcmError(f"the service did not start: {log.read().strip()}")
                time.sleep(0.1)
            yield Service(port, time.perf_counter() - begin)
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    line = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        line.close()


def _measured(service: Service, clients: int, bodies: Sequence[bytes]) -> Measurement:
    """Send all requests and time them."""
    begin = time.perf_counter()
    answers = _sent(service, clients, bodies)
    seconds = time.perf_counter() - begin
    return Measurement(seconds, len(bodies), service.seconds, result=[json.loads(one)["rows"][0] for one in answers])


def _sent(service: Service, clients: int, bodies: Sequence[bytes]) -> list[bytes]:
    """Return the answers to requests, which clients send at the same time, each its next when it has its last answer."""
    waiting = iter(enumerate(bodies))  # `next` on it is atomic
    answers = [b""] * len(bodies)

    def client() -> None:
        line = http.client.HTTPConnection(HOST, service.port, timeout=START)
        for number, body in waiting:
            line.request("POST", "/code", body, {"Content-Type": "application/json"})
            answer = line.getresponse()
            answers[number] = answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise KjcmError(f"the service answered {answer.status}")
        line.close()

    with ThreadPoolExecutor(clients) as threads:
        for one in [threads.submit(client) for _ in range(clients)]:
            one.result()
    return answers


def agreement(measured: Measured, ours: str, other: str) -> dict[str, float]:
    """Return how near the answers of two sides are: equal top-1 codes and decisions, greatest difference of probability."""
    pairs: list[tuple[Any, Any]] = list(zip(measured[ours][0].result, measured[other][0].result, strict=True))
    tops = [(own["codes"][0], their["codes"][0]) for own, their in pairs if own["codes"] and their["codes"]]
    return {
        "equal_codes": sum(own["code"] == their["code"] for own, their in tops) / max(1, len(tops)),
        "equal_decisions": sum(own["decision"] == their["decision"] for own, their in pairs) / len(pairs),
        "probability_difference": max((abs(own["prob"] - their["prob"]) for own, their in tops), default=0.0),
    }


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.serve")
