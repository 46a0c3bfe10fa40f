"""`kjcm pretrain`: its texts, its hidden tokens, resuming, and training from its model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from kjcm.errors import ConfigError, KjcmError
from kjcm.pretraining.texts import lines_in, texts_to_learn
from tests.conftest import ROOT, command, config_of
from tests.forking import Forked

SHAPE = "model.shape={model_type: distilbert, n_layers: 1, dim: 16, n_heads: 2, hidden_dim: 32, max_position_embeddings: 64}"
WORDS = ("data.scale=0.005", SHAPE, "model.max_length=32", "trainer.max_epochs=2", "trainer.precision=32-true",
         "tokenizer.vocab_size=1000", "data.batch_size=32")  # fmt: skip


ROWS = "workplace,position,task\n병원,간호사,환자 간호\n은행,창구 직원,입출금\n-,1,2\n"


def model_of(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a finished pretraining on the twin."""
    run = tmp_path_factory.mktemp("pretrained") / "run"
    command("pretrain", *WORDS, f"run_dir={run}", f"cache={run.parent / 'cache'}")
    return run


def test_it_learns_and_reports(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    assert report["kind"] == "pretraining" and report["synthetic"] is True and report["epochs"] == 2
    assert set(report["validation"]) == {"loss", "accuracy", "perplexity"}
    assert report["texts"]["train"] > report["texts"]["validation"] > 0
    assert report["validation"]["loss"] < torch.log(torch.tensor(1000.0)).item()  # better than an even guess


def test_train_starts_from_it(here: Path, done: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command("train", "data.scale=0.005", "model.pooling=mean", f"model.pretrained={done / 'model'}", "tokenizer=huggingface",
            "model.max_length=32", "trainer.max_epochs=1", "trainer.flags.limit_train_batches=1", "optim.lr=1e-12",
            "svm_check=0", f"run_dir={run}")  # fmt: skip
    from safetensors.torch import load_file

    own, learnt = load_file(run / "model" / "model.safetensors"), load_file(done / "model" / "model.safetensors")
    name = "transformer.layer.0.ffn.lin1.weight"
    torch.testing.assert_close(own[f"encoder.{name}"], learnt[f"distilbert.{name}"], rtol=0, atol=1e-6)


def test_a_killed_run_ends_with_the_same_weights(done: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-m", "kjcm", "pretrain", *WORDS, f"run_dir={run}", f"cache={done.parent / 'cache'}"]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}

    def start(*more: str) -> "subprocess.Popen[str]":
        return Forked([*words, *more], cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                      text=True)  # fmt: skip

    child = start("trainer.save_every=0")
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoints/step-0000000[3-9]-*.ckpt")) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (run / "DONE").exists()
    child = start()
    assert child.wait(300) == 0, child.communicate()
    assert "resuming" in (run / "train.log").read_text()
    assert model_of(run) == model_of(done)


def test_rows_without_codes_and_lines_of_files(here: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    more = tmp_path / "more" / "below"
    more.mkdir(parents=True)
    (more / "a.TXT").write_text("\ufeff용접을 한다\n\n123\n용접을 한다\n", encoding="utf-8")
    run = tmp_path / "run"
    command("pretrain", *WORDS[1:], "data=table", f"data.path={tmp_path / 'rows.csv'}", "data.columns.code=null",
            "data.columns.id=null", f"pretraining.texts={more.parent}", "pretraining.held_out=0", "trainer.max_epochs=1",
            f"run_dir={run}")  # fmt: skip
    report = json.loads((run / "report.json").read_text())
    assert report["texts"] == {
        "train": 3,
        "validation": 0,
        "left": {"row that is not text": 1, "line without a letter": 1, "repeated text": 1},
    }
    assert report["validation"] == {} and report["synthetic"] is False


def test_test_rows_are_never_learnt(here: Path) -> None:
    numbers = [(code, number) for code in ("111", "251") for number in range(30)]
    rows = [f"{code}-{number},회사{number % 7} {number}번,직원 {code},일을 한다,{code}" for code, number in numbers]
    (here / "rows.csv").write_text("\n".join(["id,workplace,position,task,code", *rows]), encoding="utf-8")
    data = ("data=table", "data.path=rows.csv", "data.cutoff=0")
    assert command("prepare", *data, "out=cohort") == 0
    cohort = pd.read_parquet(here / "cohort" / "cohort.parquet")
    held = cohort["side"].eq("test").sum()
    (here / "lines.txt").write_text("\n".join(cohort["text"]), encoding="utf-8")
    words = (*WORDS[1:], *data, "run_dir=run", "trainer.max_epochs=1", "pretraining.texts=lines.txt")
    assert command("pretrain", *words, "trainer.flags.limit_val_batches=0") == 0
    report = json.loads((here / "run" / "report.json").read_text())
    assert report["texts"]["left"] == {"repeated text": 60 - held, "text of a test or validation row": held}
    assert report["texts"]["train"] + report["texts"]["validation"] == 60 - held
    assert report["validation"]["loss"] > 0  # on all held-out texts, whatever the flag


def test_the_texts_of_a_test_file_are_never_learnt_without_codes(here: Path) -> None:
    header = "id,workplace,position,task"
    (here / "a.csv").write_text(f"{header}\nsynthetic-1,회사,직원,일\nb,가게,점원,판매\n", encoding="utf-8")
    (here / "test.csv").write_text(f"{header}\nc,바다,어부,어업\nd,가게,점원,판매\n", encoding="utf-8")
    (here / "lines.txt").write_text("용접을 한다\n운전을 한다\n", encoding="utf-8")
    words = ["data=table", "data.path=a.csv", "data.test_path=test.csv", "data.columns.code=null"]
    texts = texts_to_learn(config_of("pretrain", *words, "pretraining.texts=lines.txt", "pretraining.held_out=0"))
    assert len(texts.train) == 3 and not any("어부" in text or "점원" in text for text in texts.train)
    assert texts.left == {"text of a test or validation row": 1} and texts.synthetic


def test_the_other_wave_is_never_learnt_without_codes() -> None:
    words = ("data.scale=0.005", "data.columns.code=null", "pretraining.held_out=0")
    both, one = (texts_to_learn(config_of("pretrain", *words, *more)) for more in ((), ("data.train_wave=5",)))
    assert 0 < len(one.train) < len(both.train) and set(one.train) < set(both.train)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretraining\.texts"):
        list(lines_in(tmp_path, Counter()))
    (tmp_path / "a.txt").write_bytes("한글".encode("cp949"))
    with pytest.raises(KjcmError, match="UTF-8"):
        list(lines_in(tmp_path, Counter()))


def test_hidden_tokens() -> None:
    from kjcm.engine.learning import Learning
    from kjcm.pretraining.masked import IGNORED, MaskedLanguage
    from kjcm.text.tokenizer import build_tokenizer

    tokenizer = build_tokenizer("trained", None, 200, [f"가게에서 물건을 판다 {n}" for n in range(300)], None)
    module = MaskedLanguage(torch.nn.Linear(1, 1), tokenizer, Learning(), 0, 0.15)
    special = torch.tensor(tokenizer.all_special_ids)
    ids = torch.randint(len(tokenizer), (400, 20), generator=torch.Generator().manual_seed(0))
    inputs, targets = module.hide(ids, torch.Generator().manual_seed(1))
    hidden = targets != IGNORED
    assert not torch.isin(ids[hidden], special).any()
    assert (inputs[~hidden] == ids[~hidden]).all() and (targets[hidden] == ids[hidden]).all()
    assert hidden.any(dim=1)[~torch.isin(ids, special).all(dim=1)].all()
    share = hidden.float().mean().item()
    assert 0.13 < share < 0.18
    assert 0.75 < (inputs[hidden] == tokenizer.mask_token_id).float().mean().item() < 0.85
    again, _ = module.hide(ids, torch.Generator().manual_seed(1))
    assert torch.equal(again, inputs)
