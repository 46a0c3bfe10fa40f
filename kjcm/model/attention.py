"""Attention over packed texts, through transformers' own attention interface.

A packed batch is one row of tokens, text after text. transformers passes the keyword arguments of a forward to the
attention function, so its encoders can run packed unchanged if they use `packed_attention`. Without a layout,
`packed_attention` computes what `sdpa` computes.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "kjcm_packed"
PACKABLE = ("distilbert", "bert", "electra", "roberta", "xlm-roberta")  # model_type of configurations


@dataclass(frozen=True)
class Layout:
    """The positions of the texts in a packed batch.

    Attributes:
        starts: [texts + 1], int32; text i has the tokens starts[i] to starts[i + 1].
        places: [tokens of texts], each token's index in the padded texts: text * longest + position. Further tokens are
            filler, which attends to nothing.
        valid: [texts, 1, 1, longest], which padded positions contain a token.
        dropout: whether the model's attention dropout applies.
        varlen: use PyTorch's `varlen_attn` (CUDA, half precision, no dropout) instead of padding.
        parts: the texts in groups that attention pads apart, each with its tokens' indices; empty: all texts together.
    """

    starts: Tensor
    places: Tensor
    valid: Tensor
    dropout: bool = True
    varlen: bool = False
    parts: tuple[tuple[Tensor, "Layout"], ...] = ()

    @property
    def longest(self) -> int:
        """Return the positions of each padded text."""
        return self.valid.shape[-1]

    def padded(self, tokens: Tensor) -> Tensor:
        """Return tokens [tokens, width] as padded texts [texts, longest, width], with zeros for padding."""
        real = tokens[: len(self.places)]
        spread = real.new_zeros(self.valid.numel(), real.shape[1]).index_copy_(0, self.places, real)
        return spread.view(len(self.valid), self.longest, -1)

    def packed(self, texts: Tensor, tokens: int) -> Tensor:
        """Return the tokens [tokens, width] of padded texts [texts, longest, width], with zeros for filler."""
        real: Tensor = _Gather.apply(texts.flatten(0, 1), self.places)  # type: ignore[no-untyped-call]
        return functional.pad(real, (0, 0, 0, tokens - len(real)))


def in_halves(layout: Layout) -> Layout:
    """Return a layout whose shorter and longer texts attention pads apart, if that halves the length of the shorter ones.

    On a CPU, dropout of the attention of padded texts costs more than all matrix products of a small encoder.
    """
    lengths = layout.starts.diff().long()
    short, long = lengths.argsort(stable=True).tensor_split([len(lengths) // 2])
    if not len(short) or 2 * int(lengths[short[-1]]) > layout.longest:
        return layout
    return replace(layout, parts=(_part(layout, short), _part(layout, long)))


def _part(layout: Layout, texts: Tensor) -> tuple[Tensor, Layout]:
    """Return the indices of the tokens of some texts, and these texts' layout."""
    lengths = layout.starts.diff().long()[texts]
    starts = functional.pad(lengths.cumsum(0), (1, 0))
    within = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(lengths)
    longest = int(lengths.max())
    places = (torch.arange(len(texts)) * longest).repeat_interleave(lengths) + within
    valid = (torch.arange(longest) < lengths[:, None])[:, None, None]
    tokens = layout.starts[texts].repeat_interleave(lengths) + within
    return tokens, Layout(starts.int(), places, valid, layout.dropout)


class _Gather(torch.autograd.Function):
    """Select tokens by index; no index occurs twice, so the derivative is a copy instead of a sum."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(padded)
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, grad.shape[1]).index_copy_(0, places, grad), None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend within each text of a packed batch; query, key, value: [1, heads, tokens, width] -> [1, tokens, heads, width].

    The texts are padded for attention only, which is a small part of the cost; dropout is exact.
    """
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    q, k, v = (packed[0].transpose(0, 1) for packed in (query, key, value))  # [tokens, heads, width]
    if layout.varlen and q.shape[-1] % 8 == 0:  # no kernel for other widths
        return _varlen(q, k, v, layout)[None], None
    if not layout.parts:
        return _padded(q, k, v, layout, dropout, scaling)[None], None
    attended = torch.zeros_like(q)
    for tokens, part in layout.parts:
        own_q, own_k, own_v = (
            _Gather.apply(each.flatten(1), tokens).view(-1, *q.shape[1:])  # type: ignore[no-untyped-call]
            for each in (q, k, v)
        )
        attended = attended.index_copy(0, tokens, _padded(own_q, own_k, own_v, part, dropout, scaling))
    return attended[None], None


def _padded(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scaling: float | None) -> Tensor:
    """Attend over packed [tokens, heads, width], padded."""
    heads, width = query.shape[1:]

    def texts(tokens: Tensor) -> Tensor:
        return layout.padded(tokens.flatten(1)).view(-1, layout.longest, heads, width).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        texts(query),
        texts(key),
        texts(value),
        attn_mask=layout.valid,
        dropout_p=dropout if layout.dropout else 0.0,
        scale=scaling,
    )
    return layout.packed(attended.transpose(1, 2).flatten(2), len(query)).view(-1, heads, width)


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """Attend over packed [tokens, heads, width]; every packable encoder has the scale 1 / sqrt(width)."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    longest = layout.longest
    return varlen_attn(query, key, value, layout.starts, layout.starts, longest, longest)  # type: ignore[return-value]


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let a transformers model of a `PACKABLE` type use `packed_attention`."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
