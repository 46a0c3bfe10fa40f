"""Damage records of a run in every way that a disk, a hand or a forger might, and run commands on it."""

import contextlib
import copy
import io
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.conftest import command

VALUES: tuple[Any, ...] = (
    None, [], {}, "x", "", -1, 0, 2**70, 1.5, 1e300, True, [[]], {"a": {"b": []}}, "../../etc/passwd", "\x00", "{{ 7*7 }}",
)  # fmt: skip
BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
RECORDS = {  # record -> commands that read it
    "identity.json": ("runs", "report", "evaluate"),
    "config.yaml": ("runs", "report", "evaluate", "review", "export"),
    "hydra/overrides.yaml": ("runs", "report"),
    "report.json": ("runs", "report", "evaluate"),
    "cohort.json": ("report", "evaluate"),
    "predictions.parquet": ("report",),
    "DONE": ("runs", "predict"),
    "failure.json": ("runs",),
    ".lease/1": ("runs",),
    "model/kjcm.json": ("predict", "review", "export"),
    "model/config.json": ("predict", "export"),
    "model/model.safetensors": ("predict", "export"),
    "model/tokenizer.json": ("predict", "export"),
    "model/tokenizer_config.json": ("predict", "export"),
    "model/README.md": ("export",),
    "model/calibration.json": ("predict", "export"),
    "model/triage.safetensors": ("predict",),
    "model/special_tokens_map.json": ("predict",),
    "test_logits.safetensors": ("report",),
}


def parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON value but itself."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from parts(part, (*path, key))


def changed(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one of its parts replaced or removed."""
    whole = copy.deepcopy(value)
    paths = list(parts(whole))
    if not paths or chance.random() < 0.15:
        return chance.choice(VALUES)
    depth = min(map(len, paths)) if chance.random() < 0.3 else None
    *lead, last = chance.choice([path for path in paths if depth is None or len(path) == depth])
    node = whole
    for key in lead:
        node = node[key]
    if chance.random() < 0.25:
        del node[last]
    else:
        node[last] = chance.choice(VALUES)
    return whole


def change_values(file: Path, chance: random.Random) -> None:
    whole = file.read_bytes()
    if file.suffix == ".json":
        file.write_text(json.dumps(changed(json.loads(whole), chance)))
    elif file.suffix == ".yaml":
        file.write_text(yaml.safe_dump(changed(yaml.safe_load(whole), chance)))
    elif file.suffix == ".parquet":
        change_table(file, chance)
    else:
        flip(file, chance)


def change_table(file: Path, chance: random.Random) -> None:
    """Write a Parquet file with metadata, texts, types or times that pandas does not read, or without a column."""
    table = pq.read_table(file)
    place, rows = chance.randrange(table.num_columns), len(table)
    bad_utf8 = pa.Array.from_buffers(pa.string(), rows, pa.array([b"\xff\xfe"] * rows, pa.binary()).buffers())
    columns = {
        "utf8": bad_utf8,
        "zone": pa.array([0] * rows, pa.int64()).cast(pa.timestamp("s", "No/Where")),
        "year": pa.array([10**12] * rows, pa.int64()).cast(pa.timestamp("s")),
        "date": pa.array([2**30] * rows, pa.int32()).cast(pa.date32()),
        "list": pa.array([[1]] * rows),
        "null": pa.nulls(rows),
        "float": pa.array([float("inf")] * rows),
    }
    kind = chance.choice(["metadata", "missing", "empty", *columns])
    if kind == "metadata":
        table = table.replace_schema_metadata(
            {b"pandas": chance.choice([b"{", b"[]", b"\xff", b'{"index_columns": 5}'])}
        )
    elif kind == "missing":
        table = table.remove_column(place)
    elif kind == "empty":
        table = table.slice(0, 0)
    else:
        table = table.set_column(place, table.column_names[place], columns[kind])
    pq.write_table(table, file)


def truncate(file: Path, chance: random.Random) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: chance.randrange(len(whole) + 1)])


def flip(file: Path, chance: random.Random) -> None:
    whole = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 20)) if whole else 0):
        whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    file.write_bytes(whole)


def fill(file: Path, chance: random.Random) -> None:
    texts = (
        b"", b"null", b"[]", b"{}", b"[" * 10**5, b"a: " * 10**4, b"{" * 10**5, BOMB.encode(), b"\x00" * 999, b"\xff\xfe",
        b"a: *nothing", b"? [a]\n: b", b"!!python/object/apply:os.system ['true']", b'{"a": NaN}', b'"\\ud800"', b"- \t- @",
        b"1" * 9999, b"a: 2020-99-99", chance.randbytes(99),
    )  # fmt: skip
    file.write_bytes(chance.choice(texts))


def replace(file: Path, chance: random.Random) -> None:
    """Put what is no regular file in place of a record."""
    file.unlink()
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: None, lambda: os.mkfifo(file), file.mkdir, lambda: file.symlink_to(file.name),
        lambda: file.symlink_to("/dev/zero"), lambda: sparse(file), lambda: file.symlink_to("nowhere"),
    )  # fmt: skip
    chance.choice(kinds)()


def sparse(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 41)


DAMAGES = (change_values, change_values, change_values, truncate, flip, fill, replace)


def words_of(name: str, run: Path, folder: Path) -> list[str]:
    """Return the words of a command that reads the run and writes into a folder."""
    coded = run.parent / "coded.csv"
    return {
        "runs": ["runs", f"runs={run.parent}"],
        "report": ["report", f"runs={run.parent}", f"out={folder / 'report'}", "replicates=0", "only=[table_3]"],
        "evaluate": ["evaluate", f"run={run}", f"out={folder / 'evaluation'}", "trainer=cpu"],
        "predict": ["predict", f"run={run}", f"input={run.parent / 'input.csv'}", f"output={folder / 'out.csv'}",
                    "accelerator=cpu"],
        "review": ["review", f"run={run}", f"input={coded}", f"export={folder / 'reviewed.csv'}"],
        "export": ["export", f"run={run}", f"out={folder / 'onnx'}", "rows=4"],
    }[name]  # fmt: skip


def late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("the command hangs")


def attempt(words: list[str], seconds: int = 60) -> tuple[int, str]:
    """Return a command's exit code and what it printed; raise TimeoutError if it hangs."""
    shown = io.StringIO()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            code = command(*words)
    finally:
        signal.alarm(0)
    return code, shown.getvalue()


def fuzz(whole: Path, folder: Path, cases: int, seed: int) -> list[str]:
    """Damage a copy of a run in `cases` ways; return what went wrong.

    Args:
        whole: a folder with the run `run`, `input.csv` and `coded.csv`.
        folder: an empty folder.
        cases: how many.
        seed: of the damages.
    """
    chance, wrong = random.Random(seed), []
    for case in range(cases):
        here = folder / str(case)
        shutil.copytree(whole, here, symlinks=True)
        record = list(RECORDS)[case % len(RECORDS)]
        file, damage = here / "run" / record, chance.choice(DAMAGES)
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text("{}")
        damage(file, chance)
        if record == "failure.json":
            (here / "run" / "DONE").unlink()
        for name in RECORDS[record]:
            try:
                code, shown = attempt(words_of(name, here / "run", here))
            except BaseException as error:
                wrong.append(f"case {case}: {damage.__name__} {record}: {name}: {type(error).__name__}: {error}")
                continue
            if code not in (0, 1, 2) or "Traceback" in shown or "fault of kjcm" in shown or 'File "' in shown:
                wrong.append(f"case {case}: {damage.__name__} {record}: {name}: exit {code}\n{shown[-2000:]}")
        shutil.rmtree(here)
    return wrong
