"""Packed attention against one text at a time."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from kjcm.model.attention import Layout, in_halves, packed_attention
from kjcm.model.packing import pack
from tests.model.test_packing import TEXTS, tokens_of

HEADS, WIDTH = 2, 4


def attended_alone(query: Tensor, key: Tensor, value: Tensor, starts: list[int]) -> Tensor:
    """Attend text by text; [tokens, heads, width]."""
    parts = []
    for begin, end in itertools.pairwise(starts):
        q, k, v = (each[begin:end].transpose(0, 1) for each in (query, key, value))
        parts.append(((q @ k.transpose(1, 2) / math.sqrt(WIDTH)).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def drawn() -> tuple[list[Tensor], Layout]:
    batch = pack(tokens_of(TEXTS), torch.tensor([3, 1, 2, 1]).numpy())
    generator = torch.Generator().manual_seed(0)
    shape = (1, HEADS, len(batch["places"]), WIDTH)
    qkv = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    return qkv, Layout(batch["starts"], batch["places"], batch["valid"])


@pytest.mark.parametrize("halves", [False, True])
def test_padded_attention_is_that_of_each_text_alone_with_its_gradients(
    drawn: tuple[list[Tensor], Layout], halves: bool
) -> None:
    qkv, layout = drawn
    if halves:
        layout = in_halves(layout)
        assert len(layout.parts) == 2
    found, _ = packed_attention(nn.Module(), *qkv, None, layout=layout)
    expected = attended_alone(*(each[0].transpose(0, 1) for each in qkv), layout.starts.tolist())
    torch.testing.assert_close(found[0], expected)
    weight = torch.arange(found.numel(), dtype=torch.float64).view_as(found)
    grads = torch.autograd.grad((found * weight).sum(), qkv)
    for one, other in zip(grads, torch.autograd.grad((expected * weight[0]).sum(), qkv), strict=True):
        torch.testing.assert_close(one, other)


def test_shorter_and_longer_texts_are_padded_apart(drawn: tuple[list[Tensor], Layout]) -> None:
    _, layout = drawn
    (_, short), (_, long) = in_halves(layout).parts
    assert short.valid.sum() + long.valid.sum() == layout.valid.sum()
    assert short.valid.numel() + long.valid.numel() < layout.valid.numel()
    assert 2 * short.longest <= long.longest == layout.longest


@pytest.mark.parametrize("rows", [[3, 2, 0], [2]])
def test_texts_of_similar_length_stay_together(rows: list[int]) -> None:
    batch = pack(tokens_of(TEXTS), torch.tensor(rows).numpy())
    layout = Layout(batch["starts"], batch["places"], batch["valid"])
    assert in_halves(layout) is layout


def test_varlen_attention_gets_what_it_asks_for(
    drawn: tuple[list[Tensor], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`varlen_attn` runs on a GPU alone: in its place stands one that reads its arguments as it does."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    qkv, padded = drawn
    layout = Layout(padded.starts, padded.places, padded.valid, dropout=False, varlen=True)

    def stand_in(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int) -> Tensor:
        assert all(each.is_contiguous() and each.shape[1:] == (HEADS, WIDTH) for each in (q, k, v))
        assert cu_q.dtype == torch.int32 and max_q == max_k >= int(cu_q.diff().max()) and cu_q is cu_k
        return attended_alone(q, k, v, cu_q.tolist())

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    found, _ = packed_attention(nn.Module(), *qkv, None, dropout=0.5, layout=layout)
    torch.testing.assert_close(found, packed_attention(nn.Module(), *qkv, None, layout=padded)[0])


def test_dropout_applies_unless_the_layout_leaves_it_out(drawn: tuple[list[Tensor], Layout]) -> None:
    qkv, layout = drawn
    without = Layout(layout.starts, layout.places, layout.valid, dropout=False)
    exact, _ = packed_attention(nn.Module(), *qkv, None, layout=layout)
    torch.testing.assert_close(packed_attention(nn.Module(), *qkv, None, dropout=0.5, layout=without)[0], exact)
    torch.manual_seed(0)
    assert not torch.allclose(packed_attention(nn.Module(), *qkv, None, dropout=0.5, layout=layout)[0], exact)


def test_filler_gets_zeros_and_changes_nothing(drawn: tuple[list[Tensor], Layout]) -> None:
    qkv, layout = drawn
    filled = [torch.cat([each, torch.full((1, HEADS, 5, WIDTH), 9.0)], dim=2) for each in qkv]
    found, _ = packed_attention(nn.Module(), *filled, None, layout=layout)
    torch.testing.assert_close(found[:, :-5], packed_attention(nn.Module(), *qkv, None, layout=layout)[0])
    assert not found[:, -5:].any()
