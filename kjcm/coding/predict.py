"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from kjcm.errors import ConfigError, KjcmError, first_line, some
from kjcm.files import SEPARATORS, atomic, code_text, read_table, require_file, text_chunks, write_json
from kjcm.study.model_folder import Settings, finished_run, load_model, load_settings
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
    coder = Coder(run, config["batch_size"], min(config["top_k"], len(settings.classes)), config["accelerator"])
    begin, rows, skipped = time.perf_counter(), 0, 0
    chunks = read_chunks(source, config["chunk_rows"])
    with atomic(target, config["overwrite"]) as temporary, _writer(temporary) as writer:
        for chunk in chunks:
            frame, left = _coded(chunk, coder, columns, source, rows, config["skip_invalid"])
            writer.write(frame)
            rows, skipped = rows + len(frame), skipped + left
            if sys.stderr.isatty():
                print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begin
    write_json(
        note,
        {
            "run": str(run), "classes_hash": settings.classes_hash, "synthetic": settings.synthetic, "rows": rows,
            "rows_without_text": skipped, "top_k": coder.top_k, "seconds": round(seconds, 3),
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


def _coded(
    chunk: pd.DataFrame,
    coder: "Coder",
    columns: Mapping[str, str | None],
    source: Path,
    before: int,
    skip_invalid: bool,
) -> tuple[pd.DataFrame, int]:
    """Return the chunk with its codes, and how many of its rows have no text.

    Raises:
        KjcmError: a column is missing or would be overwritten, or a row has no text and `skip_invalid` is false.
    """
    missing = {role: name for role, name in columns.items() if name and name not in chunk}
    if missing:
        role = next(iter(missing))
        raise KjcmError(
            f"{source}: has no column {some(missing.values())}; its columns are {some(chunk.columns)}. Set "
            f"columns.{role}=NAME, or columns.{role}=null if there is none."
        )
    texts = sentences(chunk, columns, str(source))
    empty = np.array([not text for text in texts])
    if empty.any() and not skip_invalid:
        numbers = [f"{before + int(row) + 1:,}" for row in np.flatnonzero(empty)[:5]]
        raise KjcmError(
            f"{source}, columns {some(name for name in columns.values() if name)}: no text in row {', '.join(numbers)} "
            f"(counted from 1 after the header). Fill them in, or add skip_invalid=true to leave their codes empty."
        )
    added = coder.code(texts)
    added.loc[empty] = None
    twice = [name for name in added if name in chunk]
    if twice:
        raise KjcmError(f"{source}: has columns {some(twice)} already, which the codes would overwrite. Rename them.")
    return pd.concat([chunk.reset_index(drop=True), added], axis=1), int(empty.sum())


class Coder:
    """A finished run's model, ready to code texts.

    Args:
        run: the run folder.
        batch_size: texts a step.
        top_k: codes a text.
        accelerator: 'auto', 'cpu' or 'gpu'.
    """

    def __init__(self, run: Path, batch_size: int, top_k: int, accelerator: str = "auto") -> None:
        import torch

        from kjcm.study.lightning import quiet

        quiet()
        if accelerator not in ("auto", "cpu", "gpu") or (accelerator == "gpu" and not torch.cuda.is_available()):
            raise ConfigError(f"accelerator={accelerator}: use auto, cpu, or gpu where there is one (`kjcm doctor`).")
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.batch_size, self.top_k = batch_size, top_k
        model, self.tokenizer, self.settings = load_model(run / "model")
        self.model: torch.nn.Module = model.to(self.device)

    def code(self, texts: list[str]) -> pd.DataFrame:
        """Return code_1..k, title_1..k, prob_1..k for each text; probabilities are over all classes (sum 1)."""
        top, prob = self._first(texts)
        codes = np.array(self.settings.classes, dtype=object)[top]
        titles = np.array([self.settings.titles.get(code, "") for code in self.settings.classes], dtype=object)[top]
        columns: dict[str, Any] = {}
        for name, values in (("code", codes), ("title", titles), ("prob", prob)):
            columns |= {f"{name}_{k + 1}": values[:, k] for k in range(self.top_k)}
        return pd.DataFrame(columns)

    def _first(self, texts: list[str]) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        """Return class indices and probabilities [texts, top_k], likeliest first; rows run sorted by length."""
        import torch

        from kjcm.model.data import Batches, Labelled, TokenBatches
        from kjcm.text.tokens import tokenize

        settings = self.settings
        tokens = tokenize(self.tokenizer, texts, prefix=settings.prefix, max_length=settings.max_length)
        batches = TokenBatches(
            Labelled(tokens, np.zeros(len(texts), np.int64)), int(self.tokenizer.pad_token_id), packed=False
        )
        top = np.empty((len(texts), self.top_k), np.int64)
        prob = np.empty((len(texts), self.top_k), np.float32)
        with torch.inference_mode():
            for item in Batches(tokens.lengths, self.batch_size, seed=None):
                batch = batches[item]
                logits = self.model(batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device))
                values, indices = logits.float().softmax(dim=1).topk(self.top_k, dim=1)
                top[item[0]], prob[item[0]] = indices.cpu().numpy(), values.cpu().numpy()
        return top, prob


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
