"""Run an encoder's layers on packed batches: all of them, or the trained ones on the stored output of the frozen ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kjcm.errors import ConfigError
from kjcm.model.attention import Layout
from kjcm.model.packing import pack
from kjcm.text.tokens import Tokens

BATCH = 64  # texts of a batch
MOST_STATES = 8 << 30  # bytes of stored states


def lower_states(body: Any, input_ids: Tensor, positions: Tensor, layout: Layout, layers: int) -> Tensor:
    """Return the hidden states [tokens, width] of a packed batch above the first `layers` layers.

    Args:
        body: the transformers encoder, of a `PACKABLE` type.
        input_ids: [tokens].
        positions: [tokens].
        layout: the batch's texts.
        layers: number of layers; 0: the output of the embeddings.
    """
    if "roberta" in body.config.model_type:  # positions begin after the padding's
        positions = positions + body.config.pad_token_id + 1
    hidden = body.embeddings(input_ids=input_ids[None], position_ids=positions[None])
    if hasattr(body, "embeddings_project"):
        hidden = body.embeddings_project(hidden)
    for block in blocks_of(body)[:layers]:
        hidden = block(hidden, layout=layout)
    return hidden[0]  # type: ignore[no-any-return]


def upper_states(body: Any, hidden: Tensor, layout: Layout, begin: int) -> Tensor:
    """Return the last hidden states [tokens, width], given those above the first `begin` layers."""
    for block in blocks_of(body)[begin:]:
        hidden = block(hidden[None], layout=layout)[0]
    return hidden


def blocks_of(body: Any) -> Any:
    """Return the layers of a transformers encoder of a `PACKABLE` type."""
    return body.transformer.layer if body.config.model_type == "distilbert" else body.encoder.layer


@dataclass(frozen=True)
class FrozenStates:
    """The output of an encoder's frozen layers for each token of some texts.

    Attributes:
        layers: number of frozen layers.
        states: [all tokens, width].
        starts: [rows + 1]; row i has the tokens starts[i] to starts[i + 1].
    """

    layers: int
    states: Tensor
    starts: Tensor

    @classmethod
    def of(cls, encoder: Any, tokens: Tokens, layers: int, device: torch.device) -> "FrozenStates":
        """Run the embeddings and the first `layers` layers over all texts, without dropout."""
        parts = [
            lower_states(encoder.body, batch["input_ids"], batch["positions"], layout, layers)[: len(batch["places"])]
            for batch, layout in _batches_of(encoder, tokens, device)
        ]
        return cls(layers, torch.cat(parts), torch.from_numpy(tokens.starts).to(device))

    def packed(self, rows: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Return the states [tokens, width] of a packed batch's rows, with those of any token for filler."""
        begin = self.starts[rows].repeat_interleave(layout.starts.diff())
        index = positions.clone()  # a position is a valid token number too
        index[: len(begin)] += begin
        return self.states[index]


def text_vectors(encoder: Any, tokens: Tokens, device: torch.device, frozen: FrozenStates | None) -> Tensor:
    """Return the mean-pooled last hidden states of texts, [texts, width], without dropout.

    Args:
        encoder: a `MeanPooled` that can run packed batches.
        tokens: of the texts.
        device: the encoder's.
        frozen: the stored states of these texts, if there are any.
    """
    found = []
    for batch, layout in _batches_of(encoder, tokens, device):
        if frozen:
            hidden, begin = frozen.packed(batch["rows"], batch["positions"], layout), frozen.layers
        else:
            hidden, begin = lower_states(encoder.body, batch["input_ids"], batch["positions"], layout, 0), 0
        found.append(encoder.pooled(hidden, layout, begin).float())
    return torch.cat(found)


def _batches_of(encoder: Any, tokens: Tokens, device: torch.device) -> Iterator[tuple[dict[str, Tensor], Layout]]:
    """Yield packed batches of all texts, with their rows; meanwhile the encoder is in eval mode, without gradients."""
    mode = encoder.training
    encoder.eval()
    with torch.no_grad():
        for begin in range(0, len(tokens), BATCH):
            rows = np.arange(begin, min(begin + BATCH, len(tokens)), dtype=np.int64)
            made = {**pack(tokens, rows), "rows": torch.from_numpy(rows)}
            batch = {name: value.to(device) for name, value in made.items()}
            yield batch, Layout(batch["starts"], batch["places"], batch["valid"])
    encoder.train(mode)


def require_room(tokens: Mapping[str, Tokens], width: int) -> None:
    """Raise ConfigError if the states of training rows and titles would need more than `MOST_STATES` bytes in float32."""
    count = sum(len(tokens[side].ids) for side in ("train", "titles") if side in tokens)
    if (size := count * width * 4) > MOST_STATES:
        raise ConfigError(
            f"param_groups.cache_frozen=true: the states of {count:,} tokens need {size >> 30} GiB, more than "
            f"{MOST_STATES >> 30}. Set param_groups.cache_frozen=false, or a smaller model.max_length."
        )
