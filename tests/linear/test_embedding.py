"""Embeddings by a frozen encoder: the same whatever else is embedded, cached, and whitened."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.models import LinearConfig, ViewConfig
from kjcm.linear.embedding import Embedder, pretrained_embedder
from kjcm.linear.encoder_view import EncoderView

TEXTS = [
    "은행(에서) 직원(으로) 창구에서 입출금 업무를 함",
    "병원(에서) 간호사(로) 환자를 돌봄",
    "청소",
    "청소 일",
    "환자 업무",
]
VIEW = ViewConfig("encoder", "text", [], 1.0)


def embedder(run: Path, cache: Path | None = None, **more: Any) -> Embedder:
    config = LinearConfig(
        "linear", "linear", {"text": VIEW}, 1.0, str(run / "model"), "query: ", 64, "svm", 1.0, 0.0, [], 4.0, 2
    )
    return pretrained_embedder(cast(LinearConfig, replaced(config, more)), str(cache) if cache else None)


def replaced(config: LinearConfig, more: dict[str, Any]) -> LinearConfig:
    return LinearConfig(**{**vars(config), **more})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of texts that were embedded."""
    found: list[int] = []
    computed = Embedder._computed
    monkeypatch.setattr(Embedder, "_computed", lambda self, texts: (found.append(len(texts)), computed(self, texts))[1])
    return found


def test_an_embedding_is_the_mean_of_the_last_hidden_states(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("kjcm.linear.embedding.has_bf16", lambda gpu: False)
    embed = embedder(finished)
    found = embed(TEXTS)
    for text, mean in zip(TEXTS, found, strict=True):
        ids = embed.tokenizer(f"query: {text}", truncation=True, max_length=64)["input_ids"]
        with torch.inference_mode():
            hidden = embed.encoder.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
        assert mean == pytest.approx(hidden.mean(0).numpy(), abs=2e-3)
    assert found.dtype == np.float16 and found.shape == (5, embed.width) and embed.precision == "32-true"


@pytest.mark.parametrize("half", [False, True])
def test_other_texts_and_threads_change_no_bit(finished: Path, monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setattr("kjcm.linear.embedding.has_bf16", lambda gpu: half)
    together = embedder(finished)([f"{text} {number}" for number in range(20) for text in TEXTS])
    torch.set_num_threads(3)
    try:
        alone = np.concatenate([embedder(finished)([f"{text} 7"]) for text in TEXTS])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert (together[35:40] == alone).all()


def test_each_text_is_embedded_once_and_for_all_processes(finished: Path, tmp_path: Path, counted: list[int]) -> None:
    embed = embedder(finished, tmp_path)
    first = embed([*TEXTS, *TEXTS])
    assert counted == [5] and (first[:5] == first[5:]).all() and (embed(TEXTS[1:3]) == first[1:3]).all()
    again = embedder(finished, tmp_path)
    assert (again([*TEXTS, "새 글"])[:5] == first[:5]).all() and counted == [5, 1]
    assert len(embedder(finished, tmp_path)([])) == 0 and counted == [5, 1]
    embedder(finished, tmp_path, prefix="")(TEXTS)
    embedder(finished, tmp_path, max_length=8)(TEXTS)
    assert counted == [5, 1, 5, 5] and len(list(tmp_path.glob("embeddings-*"))) == 3


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut", "shape", "nan"])
def test_a_damaged_entry_of_the_cache_is_computed_again(
    finished: Path, tmp_path: Path, counted: list[int], content: bytes | str
) -> None:
    first = embedder(finished, tmp_path)(TEXTS)
    (file,) = tmp_path.glob("embeddings-*/*.npz")
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        values = first[:, 1:] if content == "shape" else np.full_like(first, np.nan)
        with np.load(file) as part:
            keys = part["keys"]
        np.savez(file, keys=keys, values=values)
    assert (embedder(finished, tmp_path)(TEXTS) == first).all() and counted == [5, 5]


def test_embeddings_are_whitened_and_of_unit_length(finished: Path) -> None:
    embed = embedder(finished)
    view = EncoderView(VIEW, embed)
    texts = [f"{text} {number}" for number in range(40) for text in TEXTS]
    rows = view.fit([*texts, ""]).toarray()
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1.0] * 200 + [0.0])
    x = embed(texts).astype(float)
    variance, direction = np.linalg.eigh(np.cov(x.T, bias=True))
    expected = (x - x.mean(0)) @ direction / np.sqrt(variance.clip(0) + 0.3 * variance.mean())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    # only up to the sign of a direction
    assert rows[:200] @ rows[:200].T == pytest.approx(expected @ expected.T, abs=1e-4)
    again = EncoderView(VIEW, embed, view.mean, view.matrix)
    assert (again.rows(texts[3:9]).toarray() == view.rows(texts[3:9]).toarray()).all()


def test_a_field_without_text_is_named_and_equal_texts_are_no_error(finished: Path) -> None:
    embed = embedder(finished)
    with pytest.raises(ConfigError, match="task"):
        EncoderView(ViewConfig("encoder", "task", [], 1.0), embed).fit(["", ""])
    assert not EncoderView(VIEW, embed).fit(["청소", "청소"]).toarray().any()


def test_an_encoder_that_overflows_and_a_folder_without_one_are_refused(finished: Path, tmp_path: Path) -> None:
    embed = embedder(finished)
    for weight in embed.encoder.encoder.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(KjcmError, match=r"model\.pretrained"):
        embed(TEXTS)
    with pytest.raises(KjcmError, match=r"model\.pretrained"):
        embedder(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.max_length"):
        embedder(finished, max_length=5000)
