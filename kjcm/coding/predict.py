"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from kjcm.coding.coder import Coder, Ready, ahead
from kjcm.errors import ConfigError, KjcmError, first_line, some
from kjcm.files import SEPARATORS, atomic, code_text, read_table, require_file, text_chunks, write_json
from kjcm.study.model_folder import Settings, finished_run, load_settings
from kjcm.survey.responses import TEXT_COLUMNS, sentences

log = logging.getLogger("kjcm")
EXCEL_ROWS = 1_048_575  # below the header
OUTPUTS = (".csv", ".tsv", ".parquet", ".xlsx")


def predict(cfg: DictConfig) -> None:
    """Write `input` with code_1..k, title_1..k and prob_1..k to `output`, and what coded it to `output`.json.

    Raises:
        KjcmError: the run is not finished, the input is not usable, or the output exists.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    run, source, target = finished_run(config["run"]), Path(config["input"]).expanduser(), Path(config["output"])
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    note = target.with_name(target.name + ".json")
    there = [path for path in (target, note) if path.exists()]
    if there and not config["overwrite"]:
        raise KjcmError(f"{there[0]} exists. Choose another output, or add overwrite=true.")
    require_file(source, "input file")
    settings = load_settings(run / "model")
    columns = _columns(settings, config["columns"])
    top_k = min(config["top_k"], len(settings.classes))
    coder = Coder(run, config["batch_size"], top_k, config["accelerator"], config["precision"])
    begin, rows, skipped = time.perf_counter(), 0, 0
    chunks = ahead(_chunks(source, config["chunk_rows"], coder, columns, config["skip_invalid"]))
    with closing(chunks), atomic(target, config["overwrite"]) as temporary, _writer(temporary) as writer:
        for chunk in chunks:
            added = coder.frame(chunk.ready)
            added.loc[chunk.empty] = None
            writer.write(pd.concat([chunk.frame.reset_index(drop=True), added], axis=1))
            rows, skipped = rows + len(added), skipped + int(chunk.empty.sum())
            if sys.stderr.isatty():
                print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begin
    write_json(
        note,
        {
            "run": str(run), "classes_hash": settings.classes_hash, "synthetic": settings.synthetic, "rows": rows,
            "rows_without_text": skipped, "top_k": coder.top_k, "precision": coder.precision, "seconds": round(seconds, 3),
        },
    )  # fmt: skip
    log.info("%s rows coded in %.1f s: %s", f"{rows:,}", seconds, target)
    if skipped:
        log.info("%s of them have no text and got no code", f"{skipped:,}")
    if settings.synthetic:
        log.info("the model is trained on SYNTHETIC data: its codes are for trying things out, not for use")


def _columns(settings: Settings, given: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return text role -> column: the run's own name where '@run' stands for it."""
    return {role: settings.columns[role] if given[role] == "@run" else given[role] for role in TEXT_COLUMNS}


@dataclass(frozen=True)
class Chunk:
    """Rows of the input, ready to be coded.

    Attributes:
        frame: the rows as read.
        empty: [rows], which have no text.
        ready: their texts.
    """

    frame: pd.DataFrame
    empty: NDArray[np.bool_]
    ready: Ready


def _chunks(
    source: Path, rows: int, coder: Coder, columns: Mapping[str, str | None], skip_invalid: bool
) -> Iterator[Chunk]:
    """Yield the input in chunks that are ready to be coded.

    Raises:
        KjcmError: a column is missing or would be overwritten, or a row has no text and `skip_invalid` is false.
    """
    before = 0
    for frame in read_chunks(source, rows):
        _require_columns(frame, source, columns, coder.columns)
        texts = sentences(frame, columns, str(source))
        empty = np.array([not text for text in texts], dtype=bool)
        if empty.any() and not skip_invalid:
            numbers = [f"{before + int(row) + 1:,}" for row in np.flatnonzero(empty)[:5]]
            raise KjcmError(
                f"{source}, columns {some(name for name in columns.values() if name)}: no text in row "
                f"{', '.join(numbers)} (counted from 1 after the header). Fill them in, or add skip_invalid=true to leave "
                "their codes empty."
            )
        yield Chunk(frame, empty, coder.ready(texts))
        before += len(frame)


def _require_columns(
    frame: pd.DataFrame, source: Path, columns: Mapping[str, str | None], added: Sequence[str]
) -> None:
    """Raise KjcmError if a text column is not there, or a column that the codes would overwrite is."""
    missing = {role: name for role, name in columns.items() if name and name not in frame}
    if missing:
        role = next(iter(missing))
        raise KjcmError(
            f"{source}: has no column {some(missing.values())}; its columns are {some(frame.columns)}. Set "
            f"columns.{role}=NAME, or columns.{role}=null if there is none."
        )
    twice = [name for name in added if name in frame]
    if twice:
        raise KjcmError(f"{source}: has columns {some(twice)} already, which the codes would overwrite. Rename them.")


def read_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield a file in frames of at most `rows` rows: CSV, TSV and Parquet as a stream, other kinds read whole."""
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        yield from text_chunks(path, rows)
    elif suffix == ".parquet":
        yield from _parquet_chunks(path, rows)
    else:
        table = read_table(path)
        yield from (table.iloc[begin : begin + rows] for begin in range(0, max(len(table), 1), rows))


def _parquet_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield frames of Arrow types, in which whole numbers with gaps stay whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield batch.to_pandas(types_mapper=pd.ArrowDtype)
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().to_pandas(types_mapper=pd.ArrowDtype)
    except pa.ArrowInvalid as error:
        raise KjcmError(f"{path}: not a readable Parquet file ({first_line(error)}).") from None


class Writer(Protocol):
    """Takes frames one after another."""

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""


class _TextWriter:
    def __init__(self, path: Path) -> None:
        self.stream = path.open("w", encoding="utf-8-sig", newline="")  # spreadsheet programs want the BOM for Hangul
        self.separator, self.header = SEPARATORS[path.suffix.lower()], True

    def write(self, frame: pd.DataFrame) -> None:
        probabilities = [name for name in frame if str(name).startswith("prob_")]
        shown = {str(name): frame[name].map("{:.6f}".format, na_action="ignore") for name in probabilities}
        frame.assign(**shown).to_csv(self.stream, sep=self.separator, index=False, header=self.header)
        self.header = False

    def close(self) -> None:
        self.stream.close()


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.schema: Any = None

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(_of_one_type(frame), schema=self.schema, preserve_index=False)
        if self.file is None:
            self.schema = _without_null_types(table.schema)
            table = table.cast(self.schema)
            self.file = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.file.write_table(table)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class _ExcelWriter:
    def __init__(self, path: Path) -> None:
        self.path, self.frames = path, list[pd.DataFrame]()

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

        frame = pd.concat(self.frames)
        if len(frame) > EXCEL_ROWS:
            raise KjcmError(f"{len(frame):,} rows are more than a worksheet holds. Write .csv, .tsv or .parquet.")
        # a worksheet cannot hold control characters
        frame.map(lambda cell: ILLEGAL_CHARACTERS_RE.sub("", cell) if isinstance(cell, str) else cell).to_excel(
            self.path, index=False
        )


def _of_one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with columns of numbers and words together (as a worksheet may have them) as text."""
    mixed = {
        str(name): frame[name].map(code_text, na_action="ignore")
        for name in frame
        if frame[name].dtype == object and len({type(cell) for cell in frame[name].dropna()}) > 1
    }
    return frame.assign(**mixed)


def _without_null_types(schema: Any) -> Any:
    """Give a column that is empty in the first chunk a type that later chunks can fill."""
    import pyarrow as pa

    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


@contextmanager
def _writer(path: Path) -> Iterator[Writer]:
    """Give the writer of the kind that the path's ending names; after an error the file is not finished."""
    kinds: dict[str, Callable[[Path], Writer]] = {".parquet": _ParquetWriter, ".xlsx": _ExcelWriter}
    writer = kinds.get(path.suffix.lower(), _TextWriter)(path)
    yield writer
    writer.close()
