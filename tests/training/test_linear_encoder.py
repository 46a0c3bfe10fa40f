"""`kjcm train model=linear` with views of a frozen encoder: an ordinary run whose folder has the encoder."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate

from kjcm.errors import KjcmError
from kjcm.files import digest
from kjcm.linear.embedding import Embedder
from kjcm.reporting.result import described
from kjcm.run_folder.contents import run_cohort, run_config
from kjcm.run_folder.model_folder import load_linear, load_settings
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.training.run import folder_of
from tests.conftest import ROOT, command, config_of

TWIN = ("model=linear", "data.scale=0.01", "model.calibration_folds=0", "logger=[]", "~model.views.position")
ENCODED = "{{of:encoder,field:{},ngrams:[],weight:{}}}"
VIEWS = f"+model.views={{e_text:{ENCODED.format('text', 1)},e_position:{ENCODED.format('position', 0.4)}}}"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def words(finished: Path) -> tuple[str, ...]:
    return (*TWIN, VIEWS, f"model.pretrained={finished}/model", "model.prefix='query: '", "model.max_length=64")


@pytest.fixture(scope="module")
def run(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("linear")
    assert command("train", *words, f"run_dir={folder}/run", f"cache={folder}/cache") == 0
    return folder / "run"


def test_the_run_keeps_its_encoder(run: Path, finished: Path) -> None:
    report = load(run / "report.json")
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert report["views"] == {"text": "char", "e_text": "encoder", "e_position": "encoder"}
    assert report["metrics"]["accuracy"] > 0.4 and report["versions"]["transformers"]
    model, settings = load_linear(run / "model")
    assert (settings.prefix, settings.max_length, settings.pooling) == ("query: ", 64, "")
    assert len(settings.files) == 6 and (run / "model" / "encoder" / "tokenizer.json").is_file()
    assert model.weights.shape[0] == model.views["text"].size + 2 * 64
    card = (run / "model" / "README.md").read_text()
    assert "encoder embeddings of position" in card and "weights of a folder" in card
    about = SimpleNamespace(report=report, config=run_config(run), cohort=run_cohort(run))
    assert "encoder embeddings of text, encoder embeddings of position, pretrained model" in described(cast(Any, about))
    for file in (run / "model").rglob("*.*"):
        assert file.stat().st_mode == (run / "report.json").stat().st_mode


def test_evaluate_predict_and_triage_use_it_and_export_refuses(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = here / "moved"
    shutil.copytree(run, moved)  # it needs neither the encoder's own folder nor the cache
    assert command("evaluate", f"run={moved}", "out=evaluated") == 0
    assert load(Path("evaluated/metrics.json"))["metrics"] == load(run / "report.json")["metrics"]
    assert command("prepare", "data.scale=0.01", "out=cohort") == 0
    rows = pd.read_parquet("cohort/cohort.parquet").query("side == 'test'")
    rows[["id", *TEXT_COLUMNS]].to_csv("in.csv", index=False)
    ask = ("predict", f"run={moved}", "input=in.csv", "triage.calibrated=false")
    assert command(*ask, "output=out.csv", "chunk_rows=50") == 0
    predictions = pd.read_parquet(run / "predictions.parquet")
    coded = pd.read_csv("out.csv", dtype={"code_1": str})
    assert coded["code_1"].tolist() == predictions["code_1"].tolist()
    assert coded["prob_1"].to_numpy() == pytest.approx(predictions["prob_1"].to_numpy(), abs=1e-6)
    assert load(Path("out.csv.json"))["precision"] == load(run / "report.json")["precision"]
    other = {"32-true": "bf16", "bf16": "32-true"}[load(run / "report.json")["precision"]]
    assert command(*ask, "output=other.csv", f"precision={other}") == 2
    capsys.readouterr()
    assert command("export", f"run={moved}") == 1 and "ONNX" in capsys.readouterr().err


def test_runs_of_other_folds_and_views_embed_no_text_again(
    run: Path, words: tuple[str, ...], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = run.parent / "cache"

    def computed(self: Embedder, texts: list[str]) -> Any:
        raise AssertionError(f"{len(texts)} texts are embedded again")

    monkeypatch.setattr(Embedder, "_computed", computed)
    more = ("data.folds=4", "data.fold=2", "~model.views.e_position", f"cache={cache}", "run_dir=fold")
    assert command("train", *words, *more) == 0
    assert command("train", *words, f"cache={cache}", "run_dir=again") == 0
    for name in load(run / "model" / "kjcm.json")["files"]:
        assert digest(run / "model" / name) == digest(Path("again/model") / name)


def test_only_keys_that_are_read_count_for_the_run(
    run: Path, words: tuple[str, ...], finished: Path, tmp_path: Path, here: Path
) -> None:
    def hash_of(*overrides: str) -> str:
        return folder_of(config_of("train", *overrides)).identity.hash

    shutil.copytree(finished / "model", tmp_path / "other")
    own = load(run / "identity.json")["hash"]
    assert hash_of(*words) == hash_of(*words, f"model.pretrained={tmp_path}/other") == own
    assert load(run / "identity.json")["inputs"]["model.pretrained"] == digest(finished / "model")
    (tmp_path / "other" / "config.json").write_text("{}")
    for other in (f"model.pretrained={tmp_path}/other", "model.prefix='passage: '", "model.max_length=32"):
        assert hash_of(*words, other) != own
    plain = hash_of(*TWIN)
    for unread in (f"model.pretrained={finished}/model", "model.prefix=x", "model.max_length=32"):
        assert hash_of(*TWIN, unread) == plain and command("train", *TWIN, unread) == 2


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model.pretrained=null", "model.pretrained"), ("model.views.e_text.ngrams=[1,2]", "model.views.e_text.ngrams"),
        ("model.views.text.ngrams=[]", "model.views.text.ngrams"), ("model.max_length=5000", "model.max_length"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(
    words: tuple[str, ...], word: str, named: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", *words, word) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "matrix", "ngrams", "terms", "width", "code", "no encoder", "length"]
)
def test_a_damaged_model_is_refused(run: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    record, arrays, settings = (
        load(folder / "linear.json"),
        load_file(folder / "linear.safetensors"),
        load(folder / "kjcm.json"),
    )
    config = load(folder / "encoder" / "config.json")
    if damage == "matrix":
        arrays["matrix.e_text"] = arrays["matrix.e_text"][:, 1:].copy()
    elif damage in ("ngrams", "terms"):
        record["views"]["e_text"][damage] = [1, 2] if damage == "ngrams" else ["가"]
    elif damage == "width":
        config["dim"] = 32
    elif damage == "code":
        config |= {"model_type": "own", "auto_map": {"AutoModel": "own.Model"}}
    (folder / "linear.json").write_text(json.dumps(record))
    (folder / "encoder" / "config.json").write_text(json.dumps(config))
    save_file(arrays, folder / "linear.safetensors")
    if damage == "no encoder":
        settings["files"] = {name: value for name, value in settings["files"].items() if "/" not in name}
        settings |= {"max_length": 0, "prefix": ""}
    settings["files"] = {name: digest(folder / name) for name in settings["files"]}
    if damage == "missing":
        shutil.rmtree(folder / "encoder")
    elif damage == "cut":
        (folder / "encoder" / "model.safetensors").write_bytes(b"\0" * 20)
    elif damage == "length":
        settings["max_length"] = 0
    (folder / "kjcm.json").write_text(json.dumps(settings))
    with pytest.raises(KjcmError, match=str(folder)):
        load_linear(folder)


def test_models_with_one_encoder_share_it(run: Path) -> None:
    one, two = (load_linear(run / "model")[0] for _ in range(2))
    assert one.views["e_text"].embedder is two.views["e_position"].embedder  # type: ignore[union-attr]
    frame = pd.DataFrame({"text": ["은행 창구", "청소"], "position": ["", "청소부"]})
    assert np.isfinite(one.logits(frame)).all()
    assert load_settings(run / "model").kind == "linear"
