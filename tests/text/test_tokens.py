"""Token ids kept flat, cut, padded, cached by content, and refused where too many pieces are unknown."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from kjcm.errors import KjcmError
from kjcm.text import tokens as tokens_module
from kjcm.text.tokenizer import build_tokenizer
from kjcm.text.tokens import Tokens, require_known, tokenize

TEXTS = ["목수 일을 한다", "가게에서 옷을 판다", "버스를 운전한다", "밥", "밥을 짓고 반찬을 만들고 설거지를 한다"]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A new one for each test: what a call leaves behind in it must not matter to the next."""
    return build_tokenizer("trained", None, 100, TEXTS * 5)


def lists(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[begin:end].tolist() for begin, end in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def test_ids_of_each_text(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenize(tokenizer, TEXTS, prefix="", max_length=128)
    assert len(tokens) == 5
    assert lists(tokens) == tokenizer(TEXTS)["input_ids"]
    assert tokens.lengths.tolist() == [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
    prefixed = tokenize(tokenizer, TEXTS, prefix="밥 ", max_length=128)
    assert lists(prefixed) == tokenizer(["밥 " + text for text in TEXTS])["input_ids"] != lists(tokens)
    assert len(tokenize(tokenizer, [], prefix="", max_length=128)) == 0
    assert (tokens.ids.dtype, tokens.starts.dtype) == (np.int32, np.int64)


def test_many_calls_of_the_tokenizer_are_one(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, "", "[SEP] 밥"]
    whole = tokenize(tokenizer, texts, prefix="", max_length=8)
    monkeypatch.setattr(tokens_module, "AT_ONCE", 3)
    parts = tokenize(tokenizer, texts, prefix="", max_length=8)
    assert lists(parts) == lists(whole) == tokenizer(texts, truncation=True, max_length=8)["input_ids"]


def test_padding_and_truncation_of_a_file_do_not_matter(tokenizer: PreTrainedTokenizerFast) -> None:
    wanted = lists(tokenize(tokenizer, TEXTS, prefix="", max_length=8))
    tokenizer.backend_tokenizer.enable_padding(length=20)  # many published tokenizer.json files have both
    tokenizer.backend_tokenizer.enable_truncation(3)
    assert lists(tokenize(tokenizer, TEXTS, prefix="", max_length=8)) == wanted


def test_truncation_keeps_both_ends_special(tokenizer: PreTrainedTokenizerFast) -> None:
    whole, cut = (lists(tokenize(tokenizer, TEXTS, prefix="", max_length=length)) for length in (128, 8))
    assert max(map(len, whole)) > 8
    assert cut == [ids if len(ids) <= 8 else [*ids[:7], 3] for ids in whole]


def test_padded() -> None:
    tokens = Tokens(np.array([2, 9, 3, 2, 3, 2, 7, 8, 3], np.int32), np.array([0, 3, 5, 9], np.int64))
    found = tokens.padded(np.array([2, 1, 0]), pad=1)
    assert found.dtype == np.int64
    assert found.tolist() == [[2, 7, 8, 3], [2, 3, 1, 1], [2, 9, 3, 1]]
    assert tokens.padded(np.array([1, 1]), pad=1).tolist() == [[2, 3], [2, 3]]
    assert tokens.padded(np.array([], np.int64), pad=1).shape == (0, 1)


def test_unknown_share() -> None:
    ids = np.array([2, *[5] * 95, *[0] * 5, 3], np.int32)  # 100 pieces, 5 of them unknown
    tokens = Tokens(ids, np.array([0, len(ids)], np.int64))
    assert require_known(tokens, 0, 0.05, "it") == 0.05
    assert require_known(tokens, None, 0.05, "it") == 0.0
    ids[1] = 0
    with pytest.raises(KjcmError, match=r"\(it\) turns 6\.0% .* into \[UNK\].*max_unknown=5%.*tokenizer=kobert"):
        require_known(tokens, 0, 0.05, "it")


def test_tokenizer_of_another_language_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenize(tokenizer, ["carpenter", "bus driver"], prefix="", max_length=128)
    with pytest.raises(KjcmError, match=r"into \[UNK\]"):
        require_known(tokens, tokenizer.unk_token_id, 0.05, "another")


def test_cache_is_used(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tokenize(tokenizer, TEXTS, prefix="", max_length=8, cache=tmp_path)
    again = build_tokenizer("trained", None, 100, TEXTS * 5)
    monkeypatch.setattr(tokens_module, "_encoded", None)  # a hit does not tokenise
    second = tokenize(again, TEXTS, prefix="", max_length=8, cache=tmp_path)
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.starts, second.starts)
    assert first.ids.dtype == second.ids.dtype == np.int32


def test_cache_key_does_not_depend_on_earlier_calls(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for _ in range(2):
        tokenize(tokenizer, TEXTS, prefix="", max_length=8, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_cache_key_is_the_content(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def entry(
        texts: list[str] = TEXTS, prefix: str = "", max_length: int = 8, learnt: list[str] = TEXTS
    ) -> list[list[int]]:
        fresh = build_tokenizer("trained", None, 100, learnt * 5)
        found = lists(tokenize(fresh, texts, prefix=prefix, max_length=max_length, cache=tmp_path))
        assert found == fresh([prefix + text for text in texts], truncation=True, max_length=max_length)["input_ids"]
        return found

    entry()
    entry(max_length=7)
    entry(prefix="밥 ")
    entry(learnt=TEXTS[:4])
    entry(texts=TEXTS[::-1])
    assert len(list(tmp_path.iterdir())) == 5
    assert len(entry(texts=["밥\0옷"])) == 1
    assert len(entry(texts=["밥", "옷"])) == 2  # not the entry of the one text above


@pytest.mark.parametrize("kept", [0, 100, -40], ids=["empty", "beginning", "no end"])
def test_corrupt_cache_entry_is_remade(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, kept: int) -> None:
    def tokens() -> Tokens:
        return tokenize(
            build_tokenizer("trained", None, 100, TEXTS * 5), TEXTS, prefix="", max_length=8, cache=tmp_path
        )

    wanted = lists(tokens())
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    assert lists(tokens()) == wanted
    assert [*tmp_path.iterdir()] == [file] and len(file.read_bytes()) == len(whole)
