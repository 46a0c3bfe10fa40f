"""Pretrained encoders from the hub: repositories laid out as the published Korean ones, with tiny random weights."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import metadata_load
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from kjcm.errors import KjcmError
from kjcm.ksco.classification import load_classification
from kjcm.model.encoder import build_encoder
from kjcm.text.tokenizer import kobert_file, load_tokenizer, train_unigram
from tests.conftest import command
from tests.hub.hub_server import Hub
from tests.hub.test_load import require_whole
from tests.run_folder.test_untrusted import Evil

DISTIL, SKT, KLUE = "monologg/distilkobert", "skt/kobert-base-v1", "klue/roberta-small"
KSCO = load_classification("ksco7")
TITLES = [KSCO.title(code) for level in (2, 3, 4) for code in KSCO.codes(level)]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TRAIN = (
    "experiment=k_jcm",
    "data.scale=0.01",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "run_dir=run",
    "tokenizer.max_unknown=1",
)
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_bin(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and pytorch_model.bin."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def distilkobert(folder: Path, file: Path | None = None) -> None:
    """Write monologg/distilkobert's files: weights as .bin only, a SentencePiece model and its numbers."""
    if file:
        for name in ("tokenizer_78b3253a26.model", "vocab.txt"):
            shutil.copyfile(file.with_name(name), folder / name)
    else:
        (folder / "tokenizer_78b3253a26.model").write_bytes(train_unigram(TITLES, 1000).data)
        (folder / "vocab.txt").write_text("not read: the model has numbers of its own\n")
    sizes = {"vocab_size": 8002, "pad_token_id": 1, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 16}
    write_bin(DistilBertForMaskedLM(DistilBertConfig(**sizes)), folder)


def skt_kobert(folder: Path) -> None:
    """Write skt/kobert-base-v1's files: BERT as .bin only, spiece.model."""
    (folder / "spiece.model").write_bytes(train_unigram(TITLES, 1000).data)
    config = {"tokenizer_class": "XLNetTokenizer", "do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    write_bin(BertForMaskedLM(BertConfig(vocab_size=8002, pad_token_id=1, **SIZES)), folder)


def klue_roberta(folder: Path) -> None:
    """Write klue/roberta-small's files: RoBERTa as safetensors and as .bin, BERT's kind of tokenizer."""
    letters = sorted({letter for title in TITLES for letter in title if letter.strip()})
    words = [*BERT_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    size = {"vocab_size": len(words), "max_position_embeddings": 514, "type_vocab_size": 1}
    model = RobertaForMaskedLM(RobertaConfig(pad_token_id=0, **size, **SIZES))
    model.save_pretrained(folder)
    write_bin(model, folder)


def published(hub: Hub, folder: Path, name: str, write: Callable[[Path], None]) -> None:
    torch.manual_seed(0)
    (folder / name).mkdir(parents=True)
    write(folder / name)
    hub.publish(name, folder / name)


@pytest.fixture
def served(hub: Hub, tmp_path: Path) -> Hub:
    """The hub with the three repositories."""
    for name, write in ((DISTIL, distilkobert), (SKT, skt_kobert), (KLUE, klue_roberta)):
        published(hub, tmp_path / "served", name, write)
    return hub


@pytest.mark.parametrize(
    ("words", "name", "weights"),
    [
        (["model=distilkobert"], DISTIL, "pytorch_model.bin"),
        (["model=distilkobert", f"model.pretrained={SKT}"], SKT, "pytorch_model.bin"),
        (["model=klue_roberta_small"], KLUE, "model.safetensors"),
    ],
)
def test_encoders_of_the_hub_are_trained(served: Hub, here: Path, words: list[str], name: str, weights: str) -> None:
    assert command("train", *TRAIN, *words) == 0
    fetched = {one.split("/resolve/")[1].partition("/")[2] for one in served.asked if one.startswith(f"HEAD /{name}/")}
    assert weights in fetched and len(fetched & {"pytorch_model.bin", "model.safetensors"}) == 1
    assert not [one for one in served.asked if "discussions" in one or one.startswith("POST")]
    assert str(here) not in Path("run/model/config.json").read_text(encoding="utf-8")
    assert metadata_load("run/model/README.md")["base_model"] == name
    own = json.loads(Path("run/identity.json").read_text(encoding="utf-8"))
    assert "model.pretrained" not in own["inputs"]
    require_whole(here / "cache")


def test_the_real_tokenizer_of_kobert(hub: Hub, here: Path, shared: Callable[[str], Path]) -> None:
    file = shared("data/kobert") / "tokenizer_78b3253a26.model"
    published(hub, here / "served", DISTIL, lambda folder: distilkobert(folder, file))
    assert command("train", *TRAIN, "model=distilkobert", f"model.pretrained={DISTIL}@main") == 0
    assert metadata_load("run/model/README.md")["base_model"] == DISTIL
    tokenizer = load_tokenizer(Path("run/model"))
    assert tokenizer("한국어 모델을 공유합니다.")["input_ids"] == [2, 4958, 6855, 2046, 7088, 1050, 7843, 54, 3]


def encoder(name: str) -> Any:
    options: dict[str, Any] = {"shape": None, "pooling": "cls", "classes": 3, "max_length": 12, "seed": 0}
    return build_encoder(pretrained=name, vocabulary=20, pad=0, **options)


LOADED = {  # file -> what fetches it
    (DISTIL, "pytorch_model.bin"): lambda: encoder(DISTIL),
    (KLUE, "model.safetensors"): lambda: encoder(KLUE),
    (KLUE, "config.json"): lambda: encoder(KLUE),
    (KLUE, "tokenizer.json"): lambda: load_tokenizer(KLUE),
    (DISTIL, "tokenizer_78b3253a26.model"): lambda: kobert_file(None),
}


@pytest.mark.parametrize("fault", ["drop", "half", 401, 404])
@pytest.mark.parametrize("file", LOADED)
def test_a_failed_download_names_a_remedy_and_leaves_no_half_file(
    served: Hub, here: Path, file: tuple[str, str], fault: str | int
) -> None:
    served.faults[file[1]] = fault
    for _ in range(2):
        with pytest.raises(KjcmError, match=file[0]) as raised:
            LOADED[file]()
        said = str(raised.value)
        assert said.count("\n") == 0 and served.token not in said
        assert "model.pretrained=FOLDER" in said or "tokenizer.path=F" in said
        require_whole(here / "cache")
    served.faults.clear()
    LOADED[file]()
    require_whole(here / "cache")


def test_the_command_says_what_failed(served: Hub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served.faults["model.safetensors"] = "half"
    assert command("train", *TRAIN, "model=klue_roberta_small") == 1
    (said,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert KLUE in said and "model.pretrained=FOLDER" in said and not Path("run/DONE").exists()
    served.faults.clear()
    assert command("train", *TRAIN, "model=klue_roberta_small") == 0


def test_of_a_bin_only_tensors_are_read(served: Hub, here: Path) -> None:
    whole = served.files(DISTIL)["pytorch_model.bin"]
    for content in (pickle.dumps(Evil(here / "run")), whole[: len(whole) // 2], b""):
        served.files(DISTIL)["pytorch_model.bin"] = content
        with pytest.raises(KjcmError, match=r"model\.safetensors"):
            encoder(DISTIL)
        assert not (here / "run").exists()


def test_names_that_the_hub_lacks(hub: Hub, here: Path) -> None:
    for name in ("me/none", f"{KLUE}@none", "none"):
        with pytest.raises(KjcmError, match=r"model\.pretrained=FOLDER"):
            encoder(name)
    for name in ("me/none", "./none", "a b", "none/of/these"):
        with pytest.raises(KjcmError, match=r"tokenizer\.path=FOLDER"):
            load_tokenizer(name)
