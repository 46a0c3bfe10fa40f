"""DistilBERT's last layer for the first token only, because the head reads no other token.

Logits and gradients are equal. The last layer computes queries, output and feed-forward for one token, and keys and values
for all tokens. With the paper's three layers this saves a quarter of the arithmetic. Other encoders are unchanged: with
twelve layers it would save a fifteenth.
"""

from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kjcm.model.attention import Layout


def first_states(body: Any, hidden: Tensor, layout: Layout, begin: int) -> Tensor:
    """Return each text's last hidden state of its first token, [texts, width].

    Args:
        body: a DistilBertModel.
        hidden: [tokens, width], the states above the first `begin` layers.
        layout: the batch's texts.
        begin: number of layers.
    """
    *before, last = body.transformer.layer
    for block in before[begin:]:
        hidden = block(hidden[None], layout=layout)[0]
    first = hidden[layout.starts[:-1].long().clamp(max=len(hidden) - 1)]  # an empty text may start at the end
    if begin > len(before):
        return first
    key, value = (layout.padded(linear(hidden)) for linear in (last.attention.k_lin, last.attention.v_lin))
    dropout = last.attention.dropout.p if last.training and layout.dropout else 0.0
    return _last(last, first, key, value, layout.valid, dropout)


def padded_first_only(body: Any) -> None:
    """Let the last layer of a DistilBertModel return only the first token; for padded batches that are not trained on."""
    block = body.transformer.layer[-1]
    block.forward = partial(_padded, block)


def _padded(block: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """Return the block's output [texts, 1, width] of hidden_states [texts, tokens, width]."""
    key, value = block.attention.k_lin(hidden_states), block.attention.v_lin(hidden_states)
    valid = None if attention_mask is None else attention_mask[:, :, :1]
    return _last(block, hidden_states[:, 0], key, value, valid, 0.0)[:, None]


def _last(block: Any, first: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, dropout: float) -> Tensor:
    """Return the block's output [texts, width] for first [texts, width] with key and value [texts, tokens, width]."""
    attention = block.attention

    def heads(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], attention.n_heads, -1).transpose(1, 2)

    attended = scaled_dot_product_attention(
        heads(attention.q_lin(first)[:, None]), heads(key), heads(value), attn_mask=valid, dropout_p=dropout
    )
    first = block.sa_layer_norm(attention.out_lin(attended.flatten(1)) + first)
    return block.output_layer_norm(block.ffn(first) + first)  # type: ignore[no-any-return]
