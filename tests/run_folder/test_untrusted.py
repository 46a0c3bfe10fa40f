"""A model folder from elsewhere, whatever was done to it: it loads, or there is an error; no code of it is run."""

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kjcm.errors import KjcmError
from kjcm.files import digest
from kjcm.run_folder.held_out import calibration_of, held_rows
from kjcm.run_folder.model_folder import FILES as SIGNED
from kjcm.run_folder.model_folder import load_model, load_settings

FILES = (
    "model.safetensors", "config.json", "kjcm.json", "tokenizer.json", "tokenizer_config.json", "calibration.json",
    "triage.safetensors",
)  # fmt: skip


@pytest.fixture
def folder(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of a model folder."""
    shutil.copytree(calibrated / "model", tmp_path / "model")
    return tmp_path / "model"


def sign(folder: Path) -> None:
    """Write the digests of the files as they are into kjcm.json, as who forges them would."""
    with suppress(ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError):
        settings = json.loads((folder / "kjcm.json").read_text())
        settings["files"] |= {name: digest(folder / name) for name in settings["files"] if (folder / name).is_file()}
        (folder / "kjcm.json").write_text(json.dumps(settings))


def read(folder: Path) -> bool:
    """Read all that `kjcm predict` reads; tell whether it could be, raise what is no error for a person."""
    try:
        load_model(folder)
        calibration_of(folder)
        held_rows(folder, load_settings(folder))
    except KjcmError as error:
        assert str(folder) in str(error)
        return False
    return True


def test_an_unchanged_copy_is_read(folder: Path) -> None:
    assert read(folder) and {file.name for file in folder.iterdir()} == {*FILES, "README.md"}


@pytest.mark.parametrize("name", FILES)
def test_truncated_flipped_empty_and_missing(folder: Path, name: str) -> None:
    file, chance = folder / name, random.Random(name)
    whole = file.read_bytes()
    for length in (0, 1, 9, len(whole) // 3, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert not read(folder) or whole[length:].isspace()
        sign(folder)
        # what ends in white space loses nothing by it; no tokenizer configuration leaves transformers its defaults
        assert not read(folder) or whole[length:].isspace() or name == "tokenizer_config.json"
    for _ in range(6):
        flipped = bytearray(whole)
        for _ in range(chance.choice((1, 20))):
            flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        assert not (read(folder) and name in SIGNED)
        sign(folder)
        read(folder)
    file.write_bytes(whole[::-1])
    sign(folder)
    assert not read(folder)
    file.unlink()
    assert not read(folder)
    file.mkdir()
    assert not read(folder)


@pytest.mark.parametrize("value", [None, [], {}, "x", 1, [1], {"a": []}, "[" * 2000, 1e400])
def test_json_of_another_kind(folder: Path, value: Any) -> None:
    for name in ("config.json", "kjcm.json", "tokenizer.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_text(value if isinstance(value, str) and value[0] == "[" else json.dumps(value))
        sign(folder)
        assert not read(folder)
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("wrong", [None, "x", -1, 0, [], {}, [[]], True, 1.5, "../../etc/passwd", 2**70])
def test_settings_of_another_type(folder: Path, wrong: Any) -> None:
    file = folder / "kjcm.json"
    whole = json.loads(file.read_text())
    for name in whole:
        file.write_text(json.dumps({**whole, name: wrong}))
        could = read(folder)
        assert not (could and name in ("classes", "classes_hash", "pooling", "ancestors", "n_train", "files", "kind"))
        file.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        assert not read(folder) or name in ("wording", "kind")  # a model may be older than these keys
    file.write_text(json.dumps({**whole, "more": wrong}))
    assert not read(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 10**6, "n_heads": 2}, {"n_layers": 10**9}, {"vocab_size": 2 * 10**9}, {"max_position_embeddings": 10**10},
        {"n_heads": 0}, {"dim": -4}, {"n_layers": -1}, {"model_type": "no-such"}, {"model_type": "bert"},
        {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}, {"num_labels": 10**9}, {"id2label": {}},
    ],
)  # fmt: skip
def test_configurations_of_no_or_enormous_sizes(folder: Path, change: dict[str, Any]) -> None:
    file = folder / "config.json"
    (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    sign(folder)
    assert not read(folder)


def with_header(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """Return what changes the header of a safetensors file."""

    def changed(whole: bytes) -> bytes:
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + length])
        change(header)
        packed = json.dumps(header).encode()
        return struct.pack("<Q", len(packed)) + packed + whole[8 + length :]

    return changed


@pytest.mark.parametrize("name", ["model.safetensors", "triage.safetensors"])
def test_headers_that_lie(folder: Path, name: str) -> None:
    file = folder / name
    whole = file.read_bytes()
    first = next(key for key in json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]]) if key != "__metadata__")
    for change in (
        with_header(lambda header: header[first].update(shape=[10**12, 10**12])),
        with_header(lambda header: header[first].update(data_offsets=[0, 10**15])),
        with_header(lambda header: header[first].update(dtype="F128")),
        with_header(lambda header: header.pop(first)),
        lambda whole: struct.pack("<Q", 2**62) + whole[8:],
    ):
        file.write_bytes(change(whole))
        sign(folder)
        assert not read(folder)


class Evil:
    """Pickled, it makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_no_pickle_is_read(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    evil = pickle.dumps(Evil(mark))
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt", "optimizer.pt", "tokenizer.pkl", "model.ckpt"):
        (folder / name).write_bytes(evil)
    assert read(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    assert not read(folder)
    (folder / "model.safetensors").write_bytes(weights)
    assert read(folder)
    for name in ("model.safetensors", "triage.safetensors"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(evil)
        sign(folder)
        assert not read(folder)
        (folder / name).write_bytes(kept)
    assert not mark.exists()
    pickle.loads(evil)
    assert mark.exists()  # it would have shown


def test_what_is_no_file_is_not_waited_for(folder: Path) -> None:
    for name in FILES:
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)  # who opens it waits for a writer
        assert not read(folder) or name in ("calibration.json", "triage.safetensors")
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    assert read(folder)


def test_a_panic_of_the_tokenizers_library_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3 names its own."""

    def panic(*args: Any, **kwargs: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", panic)
    with pytest.raises(KjcmError, match="index out of bounds"):
        load_model(folder)
