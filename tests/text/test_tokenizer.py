"""The trained tokenizer against SentencePiece, and what a missing tokenizer says."""

import json
import random
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import load_classification
from kjcm.text import tokenizer as tokenizer_module
from kjcm.text.tokenizer import build_tokenizer, load_tokenizer, train_unigram
from kjcm.text.unigram import SPECIAL, fast_tokenizer, reference_ids

KSCO = load_classification("ksco7")
TEXTS = [KSCO.title(code) for level in (2, 3, 4) for code in KSCO.codes(level)]
ODD = (
    "가",
    "목수",
    " ",
    "  ",
    "\t",
    "\n",
    "㎏",
    "é",
    "e\u0301",
    "ＡＢＣ",
    "8,",
    "``",
    "○○",
    "\u1112\u1161\u11ab",
    "\u1000b",
    "😀",
    "판매",
)


def odd_texts(count: int) -> list[str]:
    chance = random.Random(1)
    return ["".join(chance.choices(ODD, k=chance.randint(0, 8))) for _ in range(count)]


def test_trained_tokenizer_is_deterministic() -> None:
    first, second = train_unigram(TEXTS, 1000), train_unigram(TEXTS, 1000)
    assert first.data == second.data
    assert train_unigram(TEXTS[:-1], 1000).data != first.data


def test_trained_tokenizer_is_kept_by_its_texts_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(texts: list[str] = TEXTS, size: int = 1000) -> str:
        return build_tokenizer("trained", None, size, texts, tmp_path).backend_tokenizer.to_str()

    made = pipeline()
    assert made == build_tokenizer("trained", None, 1000, TEXTS).backend_tokenizer.to_str()
    (file,) = tmp_path.iterdir()
    assert made not in [pipeline(TEXTS[:-1]), pipeline(size=400)]
    monkeypatch.setitem(tokenizer_module.TRAINING, "character_coverage", 0.99)
    pipeline()
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.undo()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert pipeline() == made and file.read_bytes() == whole
    monkeypatch.setattr(tokenizer_module, "train_unigram", None)  # a hit trains nothing
    assert pipeline() == made


def test_trained_tokenizer_equals_sentencepiece() -> None:
    model = train_unigram(TEXTS, 1000)
    tokenizer, processor = fast_tokenizer(model), SentencePieceProcessor(model_proto=model.data)
    assert len(tokenizer) == processor.get_piece_size() <= 1000
    assert [processor.piece_to_id(token) for token in SPECIAL.values()] == [0, 1, 2, 3, 4]
    assert tokenizer.convert_tokens_to_ids([*SPECIAL.values()]) == [0, 1, 2, 3, 4]
    texts = TEXTS + odd_texts(500)
    found = tokenizer(texts)["input_ids"]
    assert found == [reference_ids(model, processor, text) for text in texts]
    assert found[: len(TEXTS)] == [[2, *processor.encode(text), 3] for text in TEXTS]
    pieces, characters = sum(map(len, found[: len(TEXTS)])), sum(map(len, TEXTS))
    assert pieces - 2 * len(TEXTS) < 0.7 * characters  # it learnt pieces of more than a character


@pytest.mark.parametrize("token", SPECIAL.values())
def test_literal_special_token_is_text(token: str) -> None:
    """Brackets and capitals do not occur in the training texts: they are unknown, but never a special token."""
    tokenizer = build_tokenizer("trained", None, 1000, TEXTS)
    ids = tokenizer(f"점원 {token} 판매")["input_ids"]
    assert not set(ids[1:-1]) & {1, 2, 3, 4}


def test_special_tokens_of_a_loaded_folder_are_not_read_from_texts(tmp_path: Path) -> None:
    """Most published tokenizers do read them: here one that does, with pieces for each of the letters."""
    tokenizer = build_tokenizer("trained", None, 1000, [*TEXTS, *["[ S E P ]"] * 50])
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "split_special_tokens": False}))
    text = "점원 [SEP] 판매"
    assert 3 in AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"][1:-1]
    ids = load_tokenizer(tmp_path)(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"] and not set(ids[1:-1]) & {0, 1, 2, 3, 4}


def test_too_little_text_to_train_on() -> None:
    with pytest.raises(KjcmError, match="No tokenizer could be trained on 0 texts"):
        build_tokenizer("trained", None, 1000, [])


def test_huggingface_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.path="):
        build_tokenizer("huggingface", None, 1000, TEXTS)


def test_without_a_network_kobert_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(KjcmError, match=r"could not be fetched.*tokenizer\.path=FILE.*model=tiny"):
        build_tokenizer("kobert", None, 8002, TEXTS)


def test_kobert_folder_without_its_files(tmp_path: Path) -> None:
    with pytest.raises(KjcmError, match=rf"{tmp_path.name}.*holds neither of spiece\.model"):
        build_tokenizer("kobert", str(tmp_path), 8002, TEXTS)


@pytest.mark.parametrize("there", [True, False])
def test_folder_without_a_tokenizer(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "absent"
    with pytest.raises(KjcmError, match=r"no tokenizer could be loaded from there.*tokenizer\.path=FOLDER") as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)


def test_damaged_tokenizer_folder(tmp_path: Path) -> None:
    build_tokenizer("trained", None, 1000, TEXTS).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(KjcmError, match="no tokenizer could be loaded from there"):
        load_tokenizer(tmp_path)
