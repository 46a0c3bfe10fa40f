"""`kjcm export`: the same model without PyTorch, or nothing at all."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.coding import onnx
from kjcm.coding.coder import Coder
from kjcm.files import digest
from kjcm.records import read_json
from tests.conftest import ROOT, command

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
TEXTS = [
    "은행(에서) 예금 상담",
    "택시 운전",
    "○○초등학교(에서) 교사(로) 학생 가르침",
    "논(에서) 벼농사와 밭농사를 짓고 가축을 돌봄",
]


@pytest.fixture(scope="module")
def exported(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of export of a copy of the run."""
    run = tmp_path_factory.mktemp("export") / "run"
    shutil.copytree(calibrated, run)
    for kind in ("onnx", "onnx-int8"):
        assert command("export", f"run={run}", f"format={kind}", "rows=64") == 0
    return run / "export"


@pytest.mark.parametrize("kind", ["onnx", "onnx-int8"])
def test_the_folder_is_whole_and_says_what_the_check_found(exported: Path, kind: str) -> None:
    folder = exported / kind
    assert {file.name for file in folder.iterdir()} == {
        "model.onnx", "tokenizer.json", "tokenizer_config.json", "kjcm.json", "calibration.json", "README.md", "export.json",
    }  # fmt: skip
    note = read_json(folder / "export.json")
    assert note["onnx"] == digest(folder / "model.onnx") and note["model"] == digest(exported.parent / "model")
    check = note["check"]
    assert check["rows"] == 64
    if kind == "onnx":
        assert check["logit_difference"] < 1e-4 and check["equal_codes"] == 1
    else:
        assert check["equal_codes"] >= 0.95 and 1e-6 < check["probability_difference"] < 0.02
        assert (folder / "model.onnx").stat().st_size < (exported / "onnx" / "model.onnx").stat().st_size
    assert not list(exported.glob(".*"))


def test_the_documented_snippet_needs_no_torch_and_gives_the_same(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "torch" not in snippet and "kjcm" not in re.sub(r'"kjcm\.json"', "", snippet)
    place = re.search(r'Path\("([^"]+)"\)', snippet)
    assert place
    names: dict[str, object] = {}
    exec(snippet.replace(place[1], str(exported / "onnx")), names)  # our own documentation
    coder = Coder(
        exported.parent / "model",
        None,
        "cpu",
        "32-true",
        read_json(exported / "onnx" / "calibration.json")["temperature"],
    )
    texts = names["texts"]
    assert isinstance(texts, list) and len(texts) > 1
    np.testing.assert_allclose(np.array(names["probabilities"]), coder.code(texts), atol=1e-5)


def test_a_model_that_comes_out_otherwise_is_not_written(
    calibrated: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    made = onnx._export

    def other(model: torch.nn.Module, file: Path) -> None:
        with torch.no_grad():
            next(iter(model.parameters())).mul_(-3)
        made(model, file)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx, "_export", other)
    for kind, word in (("onnx", "tolerance=0.001"), ("onnx-int8", "agreement=0.95")):
        assert command("export", f"run={calibrated}", f"format={kind}", "out=out", "rows=32") == 1
        assert word in capfd.readouterr().err and list(here.iterdir()) == []


def test_what_is_there_stays_and_rows_may_come_from_a_file(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from onnx import TensorProto, load, numpy_helper

    pd.DataFrame({"workplace": "", "position": "", "task": TEXTS}).to_csv("in.csv", index=False)
    words = ("export", f"run={calibrated}", "out=out", "input=in.csv")
    assert command(*words) == 0
    assert read_json(here / "out" / "export.json")["check"]["rows"] == len(TEXTS)
    assert command(*words) == 1 and "overwrite=true" in capfd.readouterr().err
    assert command(*words, "overwrite=true") == 0
    Path("in.csv").rename("out/in.csv")
    assert command(*words[:3], "input=out/in.csv", "overwrite=true") == 2
    assert "out=out: contains the input out/in.csv" in capfd.readouterr().err
    Path("out/in.csv").rename("in.csv")
    assert [file.name for file in here.iterdir() if file.name.startswith(".")] == []
    int8 = ("format=onnx-int8", "out=int8", "agreement=0.1", "overwrite=true")
    for narrow in ("true", "false"):
        assert command(*words, *int8, f"narrow={narrow}") == 0
        assert read_json(here / "int8" / "export.json")["narrow"] is (narrow == "true")
        weights = [
            numpy_helper.to_array(tensor)
            for tensor in load(here / "int8" / "model.onnx").graph.initializer
            if tensor.data_type == TensorProto.INT8
        ]
        assert (max(int(abs(each.astype(int)).max()) for each in weights) > 64) == (narrow == "false")
        out, error = capfd.readouterr()
        assert ("narrow=true" in out) == (narrow == "false") and "MatMul" not in out + error
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    assert command("export", f"run={calibrated}", "out=mine", "input=in.csv", "overwrite=true") == 1
    assert (here / "mine" / "thesis.txt").read_text() == "years of work"
    pd.DataFrame({"workplace": "", "position": "", "task": TEXTS}).to_csv("in.csv", index=False, encoding="utf-16")
    assert command(*words, "overwrite=true") == 1 and "encoding" in capfd.readouterr().err
    assert command(*words, "overwrite=true", "encoding=utf-16") == 0
    assert command("export", f"run={calibrated}", "out=other", "encoding=utf-16") == 2
    pd.DataFrame({"text": TEXTS}).to_csv("in.csv", index=False)
    assert command("export", f"run={calibrated}", "out=other", "input=in.csv") == 1
    assert "has no column" in capfd.readouterr().err
