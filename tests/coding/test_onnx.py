"""The int8 model: near float32, made once, made again when it is not what its note says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.coding.coder import Coder
from kjcm.errors import ConfigError
from kjcm.records import read_json
from tests.conftest import command

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run that may be written into."""
    copy = tmp_path_factory.mktemp("int8") / "run"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture(scope="module")
def texts(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """500 answers of the twin."""
    out = tmp_path_factory.mktemp("cohort")
    assert command("prepare", "data.scale=0.02", f"out={out}", "overwrite=true") == 0
    return pd.read_parquet(out / "cohort.parquet")["text"].tolist()[:500]


def test_int8_agrees_with_float32(run: Path, texts: list[str]) -> None:
    whole = Coder(run / "model", None, "cpu", "32-true").code(texts)
    coded = Coder(run / "model", None, "cpu", "int8").code(texts)
    assert coded.shape == whole.shape and len(coded) == len(texts)
    assert (coded.argmax(axis=1) == whole.argmax(axis=1)).mean() > 0.9
    assert np.abs(coded.max(axis=1) - whole.max(axis=1)).mean() < 0.02
    assert not np.array_equal(coded, whole)


def test_nothing_is_written_next_to_a_copy_of_a_model_folder(run: Path, texts: list[str], tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "models" / "copy")
    before = sorted(tmp_path.rglob("*"))
    coded = Coder(tmp_path / "models" / "copy", None, "cpu", "int8").code(texts[:20])
    assert np.array_equal(coded, Coder(run / "model", None, "cpu", "int8").code(texts[:20]))
    assert sorted(tmp_path.rglob("*")) == before


def test_it_is_made_once_and_again_when_it_or_the_model_is_another(run: Path) -> None:
    Coder(run / "model", None, "cpu", "int8")
    file, note = run / "onnx" / "int8.onnx", run / "onnx" / "int8.json"
    made = file.stat().st_mtime_ns
    Coder(run / "model", None, "cpu", "int8")
    assert file.stat().st_mtime_ns == made
    good = file.read_bytes()
    file.write_bytes(good[:1000])  # damaged
    Coder(run / "model", None, "cpu", "int8").code(["택시 운전"])
    assert len(file.read_bytes()) == len(good)
    for damage in ("{", json.dumps({**read_json(note), "model": "of another"})):
        made = file.stat().st_mtime_ns
        note.write_text(damage)
        Coder(run / "model", None, "cpu", "int8")
        assert file.stat().st_mtime_ns != made and read_json(note)["model"] != "of another"
    assert sorted(path.name for path in file.parent.iterdir()) == ["int8.json", "int8.onnx"]


def test_the_package_that_is_missing_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("kjcm.coding.onnx.version", nothing)
    with pytest.raises(ConfigError, match=r"kjcm\[onnx\]"):
        Coder(run / "model", None, "cpu", "int8")


SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "xlm-roberta", "deberta-v2"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_encoders_become_int8(tmp_path: Path, kind: str, pooling: str) -> None:
    import torch

    from kjcm.coding.coder import token_batches
    from kjcm.coding.onnx import Int8
    from kjcm.model.encoder import build_encoder
    from kjcm.text.tokens import Tokens

    model = build_encoder(
        pretrained=None, shape={"model_type": kind, "embedding_size": 32, "max_position_embeddings": 64, **SIZES},
        pooling=pooling, classes=5, vocabulary=50, pad=1, max_length=40, seed=0,
    ).eval()  # fmt: skip
    (tmp_path / "model").mkdir()
    generator = np.random.default_rng(0)
    lengths = np.array([30, 2, 17, 5, 5])
    tokens = Tokens(generator.integers(2, 50, lengths.sum()).astype(np.int32), np.append(0, np.cumsum(lengths)))
    int8 = Int8(tmp_path / "model", model, pad=1)
    for rows in token_batches(lengths, 60):
        batch = int8.batch(tokens, rows)
        with torch.inference_mode():
            want = model(*(torch.from_numpy(array) for array in batch.values())).softmax(1)
        assert torch.allclose(next(int8.logits([batch])).softmax(1), want, atol=0.02)
