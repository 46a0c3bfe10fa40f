"""What a W&B run kept on disk says: the records of its .wandb file, as `wandb sync` would send them."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER, FIRST = 32768, 7, 7  # of LevelDB's log format; the file begins with seven bytes of W&B's own
FULL, LAST = 1, 4


@dataclass
class Offline:
    """A run as its records tell it."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)  # metric (or its glob) -> what it is over
    artifacts: dict[str, Any] = field(default_factory=dict)  # type -> record
    exit_code: int | None = None


def messages(file: Path) -> Iterator[bytes]:
    data, at, whole = file.read_bytes(), FIRST, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""


def _put(into: dict[str, Any], item: Any) -> None:
    *above, last = list(item.nested_key) or [item.key]
    for key in above:
        into = into.setdefault(key, {})
    into[last] = json.loads(item.value_json)


def read(file: Path) -> Offline:
    """Read a .wandb file."""
    found = Offline()
    for message in messages(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            for item in record.run.config.update:
                _put(found.config, item)
        elif kind == "config":
            for item in record.config.update:
                _put(found.config, item)
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                _put(row, item)
            found.history.append(row)
            found.summary.update({key: value for key, value in row.items() if not key.startswith("_")})
        elif kind == "summary":
            for item in record.summary.update:
                _put(found.summary, item)
        elif kind == "metric":
            found.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            found.artifacts[record.artifact.type] = record.artifact
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def of_run(folder: Path) -> Offline:
    """Read the one offline run in a run folder; W&B's own process may write its end a moment later."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 20
    while (found := read(file)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
