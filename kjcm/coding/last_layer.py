"""The last layer for the first token alone: a head on that token reads no other, so no other need be computed."""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from kjcm.model.encoder import FirstToken, MeanPooled


def first_token_only(model: "MeanPooled | FirstToken") -> None:
    """Make the last layer of a DistilBERT with a first-token head give that token alone, for padded batches.

    The logits are the same. Of the article's three layers it saves a quarter of all arithmetic: the last one's queries,
    output and feed-forward for all tokens but one; its keys and values are of all. Other encoders stay as they are: of
    twelve layers it would save a fifteenth.
    """
    from kjcm.model.encoder import FirstToken

    if isinstance(model, FirstToken) and model.config.model_type == "distilbert":
        block: Any = model.classifier.base_model.transformer.layer[-1]  # type: ignore[union-attr, index]
        block.forward = partial(_first_token, block)


def _first_token(
    block: Any, hidden_states: "Tensor", attention_mask: "Tensor | None" = None, **kwargs: Any
) -> "Tensor":
    """Return the block's output [texts, 1, width] of the first of hidden_states [texts, tokens, width]."""
    from torch.nn.functional import scaled_dot_product_attention

    attention, first = block.attention, hidden_states[:, :1]

    def heads(states: "Tensor") -> "Tensor":
        return states.view(*states.shape[:2], attention.n_heads, -1).transpose(1, 2)

    attended = scaled_dot_product_attention(
        heads(attention.q_lin(first)),
        heads(attention.k_lin(hidden_states)),
        heads(attention.v_lin(hidden_states)),
        attn_mask=None if attention_mask is None else attention_mask[:, :, :1],
    )
    first = block.sa_layer_norm(attention.out_lin(attended.transpose(1, 2).flatten(2)) + first)
    return block.output_layer_norm(block.ffn(first) + first)  # type: ignore[no-any-return]
