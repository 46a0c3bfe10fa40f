"""KoBERT's tokenizer as a fast one: published ids, SentencePiece's ids on real and odd texts, its folder and errors."""

import functools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, DistilBertConfig, PreTrainedTokenizerFast

from kjcm.errors import KjcmError
from kjcm.text.tokenizer import build_tokenizer, load_tokenizer
from kjcm.text.unigram import SPECIAL, Unigram, fast_tokenizer, read_unigram, reference_ids

VARIANTS = ("spiece.model", "tokenizer_78b3253a26.model")
GOLDEN = ("한국어 모델을 공유합니다.", [2, 4958, 6855, 2046, 7088, 1050, 7843, 54, 3])
PARTS = (
    "가", "한국", "목수", " ", "   ", "\t", "\n", "\xa0", "\u3000", "\u2028", "\x0b", "8,", "1,234", "８，", "②,",
    "²,", ",", "，", "é", "e\u0301", "ñ", "か\u3099", "ﬁ", "½", "㎏", "①", "ＡＢＣ", "ß", "İ", "A", "z", "``", "''",
    "`", "'", '"', "´", "¨", "ㄱ", "ㅏ", "\u1112\u1161\u11ab", "\u1100\u1161", "힣", "\u200b", "\u200d", "\ufeff",
    "\u00ad", "\x00", "○○", "@@", "ㆍ", "·", "▁", "(", ")", "漢字", "😀", "[UNK]", "<unk>", "</s>", "[", "]", "～", ".",
)  # fmt: skip


class KoBert(NamedTuple):
    fast: PreTrainedTokenizerFast
    model: Unigram
    processor: SentencePieceProcessor


@functools.cache
def load(path: Path) -> KoBert:
    model = read_unigram(path, kobert=True)
    return KoBert(fast_tokenizer(model), model, SentencePieceProcessor(model_proto=model.data))


@pytest.fixture(params=VARIANTS)
def kobert(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> KoBert:
    return load(shared(f"data/kobert/{request.param}"))


@pytest.fixture
def both(shared: Callable[[str], Path]) -> tuple[KoBert, KoBert]:
    first, second = (load(shared(f"data/kobert/{name}")) for name in VARIANTS)
    return first, second


@pytest.fixture
def answers(shared: Callable[[str], Path]) -> list[str]:
    frame = pd.read_csv(shared("data/kdo/kdo_dev.tsv"), sep="\t", dtype=str, keep_default_na=False)
    return [text for column in ("workplace", "position", "task", "duties") for text in frame[column]]


def odd_texts(count: int, parts: tuple[str, ...] = PARTS) -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(parts, k=chance.randint(0, 10))) for _ in range(count)]


def differing(kobert: KoBert, texts: list[str]) -> list[str]:
    found = kobert.fast(texts)["input_ids"]
    wanted = [reference_ids(kobert.model, kobert.processor, text) for text in texts]
    return [text for text, ours, theirs in zip(texts, found, wanted, strict=True) if ours != theirs]


def test_published_ids(kobert: KoBert) -> None:
    text, ids = GOLDEN
    assert kobert.fast(text)["input_ids"] == ids
    assert reference_ids(kobert.model, kobert.processor, text) == ids
    assert kobert.fast("")["input_ids"] == [2, 3]


def test_same_ids_as_sentencepiece_on_every_kdo_text(kobert: KoBert, answers: list[str]) -> None:
    assert len(answers) == 4 * 3716
    assert differing(kobert, answers) == []


def test_same_ids_as_sentencepiece_on_odd_texts(kobert: KoBert) -> None:
    assert differing(kobert, odd_texts(3000)) == []


@pytest.mark.parametrize(
    "text",
    ["☎\ufe0f상담", "목수\x1c미장", "가\u093f나", "1\u20e3"],
    ids=["variation", "separator", "vowel sign", "keycap"],
)
def test_only_what_python_calls_combining_is_stripped(kobert: KoBert, text: str) -> None:
    """The published tokenizer asks unicodedata.combining and str.split, not for the category M and for \\s."""
    assert differing(kobert, [text]) == []


def test_comma_never_sticks_to_a_digit(kobert: KoBert) -> None:
    assert kobert.fast.tokenize("1,000,000원 8, 가8,나") == [
        "▁", "1,000", ",", "0", "00", "원", "▁8", ",", "▁", "가", "8", ",", "나",
    ]  # fmt: skip
    vocabulary = kobert.fast.get_vocab()
    assert [piece for piece in vocabulary if re.search(r"\d,$", piece)] == []  # so the re-split has nothing to do


def test_both_variants_agree(both: tuple[KoBert, KoBert], answers: list[str]) -> None:
    texts = [*answers[::7], *odd_texts(1000)]
    assert both[0].fast(texts)["input_ids"] == both[1].fast(texts)["input_ids"]


@pytest.mark.parametrize("token", SPECIAL.values())
def test_literal_special_token_is_text(kobert: KoBert, token: str) -> None:
    pieces = kobert.fast.tokenize(f"가 {token} 나")
    assert "".join(pieces) == f"▁가▁{token}▁나"
    assert not set(kobert.fast.convert_tokens_to_ids(pieces)) & {0, 1, 2, 3, 4}


def test_saved_folder_gives_the_same_ids(kobert: KoBert, tmp_path: Path) -> None:
    kobert.fast.save_pretrained(tmp_path)
    DistilBertConfig().save_pretrained(tmp_path)  # as in a model folder: the model's type must not change the tokenizer
    texts = [GOLDEN[0], *odd_texts(300)]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts)["input_ids"] == kobert.fast(texts)["input_ids"]
    assert load_tokenizer(tmp_path)(texts)["input_ids"] == kobert.fast(texts)["input_ids"]
    assert (again.unk_token_id, again.pad_token_id, again.cls_token_id, again.sep_token_id, again.mask_token_id) == (
        0, 1, 2, 3, 4,
    )  # fmt: skip


def test_padding_is_on_the_right_with_id_1(kobert: KoBert) -> None:
    batch = kobert.fast(["", GOLDEN[0]], padding=True)
    assert batch["input_ids"] == [[2, 3, *[1] * 7], GOLDEN[1]]
    assert batch["attention_mask"] == [[1, 1, *[0] * 7], [1] * 9]


def test_a_folder_serves_as_well_as_its_file(shared: Callable[[str], Path]) -> None:
    folder = shared("data/kobert")
    for path in (folder, folder / VARIANTS[1]):
        assert build_tokenizer("kobert", str(path), 8002, [])(GOLDEN[0])["input_ids"] == GOLDEN[1]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100])
def test_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "spiece.model"
    file.write_bytes(content)
    with pytest.raises(KjcmError, match=r"spiece\.model: not a SentencePiece model"):
        read_unigram(file, kobert=True)


def test_truncated_model(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    file = tmp_path / "spiece.model"
    file.write_bytes(shared("data/kobert/spiece.model").read_bytes()[:100_000])
    with pytest.raises(KjcmError, match=r"spiece\.model"):
        build_tokenizer("kobert", str(file), 8002, [])


def test_vocabulary_missing_or_of_another_model(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    file = tmp_path / VARIANTS[1]
    file.write_bytes(shared(f"data/kobert/{VARIANTS[1]}").read_bytes())
    with pytest.raises(KjcmError, match=r"no vocab\.txt is next to it"):
        read_unigram(file, kobert=True)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[PAD]\n[CLS]\n[SEP]\n", encoding="utf-8")
    with pytest.raises(KjcmError, match=r"has no pieces \[MASK\]"):
        build_tokenizer("kobert", str(file), 8002, [])
