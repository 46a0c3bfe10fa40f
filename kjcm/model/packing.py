"""Make batches of texts: padded, or packed (all tokens in one sequence without padding)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kjcm.text.tokens import Tokens

Indices = NDArray[np.int64]

# The tokens of a batch are a multiple of this, because CPU kernels are created anew for every number of tokens.
ROUND = 64


def padded(tokens: Tokens, rows: Indices, pad: int) -> dict[str, Tensor]:
    """Return a padded batch: input_ids and attention_mask [texts, longest]."""
    ids = tokens.padded(rows, pad)
    mask = np.arange(ids.shape[1])[None, :] < tokens.lengths[rows][:, None]
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def pack(tokens: Tokens, rows: Indices) -> dict[str, Tensor]:
    """Return a packed batch: input_ids and positions [tokens], filler at the end, and the layout.

    The layout is places [tokens of texts], starts [texts + 1] and valid [texts, 1, 1, longest], as in
    `kjcm.model.attention.Layout`.
    """
    lengths = tokens.lengths[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    ids = tokens.ids[np.repeat(tokens.starts[rows], lengths) + positions]
    longest = int(lengths.max(initial=1))
    places = np.repeat(np.arange(len(rows)) * longest, lengths) + positions
    valid = np.arange(longest)[None, :] < lengths[:, None]
    filler = (0, -len(ids) % ROUND)
    return {
        "input_ids": torch.from_numpy(np.pad(ids.astype(np.int64), filler)),
        "positions": torch.from_numpy(np.pad(positions, filler)),
        "places": torch.from_numpy(places),
        "starts": torch.from_numpy(starts.astype(np.int32)),
        "valid": torch.from_numpy(valid[:, None, None, :]),
    }


@dataclass(frozen=True)
class Resident:
    """Tokens and labels that stay on a device, and batches of fixed shapes made there.

    All batches have the same shapes, so one CUDA graph serves all of them: `capacity` tokens, the last of them filler, and
    `size` texts, the last of them possibly empty. The filler is one further text. With `varlen_attn` it is several texts,
    none longer than the longest real text.

    Attributes:
        ids: [all tokens].
        starts: [rows + 1].
        labels: [rows].
        weights: [rows], each row's weight in the loss.
        pad: id of the filler.
        size: rows a batch.
        capacity: tokens a batch, filler included.
        longest: tokens of the longest text, rounded up to a multiple of 8 for the attention kernels.
        varlen: whether attention is `varlen_attn`.
    """

    ids: Tensor
    starts: Tensor
    labels: Tensor
    weights: Tensor
    pad: int
    size: int
    capacity: int
    longest: int
    varlen: bool

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        labels: Indices,
        weights: NDArray[np.float32] | None = None,
        *,
        pad: int,
        size: int,
        capacity: int,
        device: torch.device,
        varlen: bool,
    ) -> "Resident":
        """Copy tokens, labels and weights (None: all 1) to a device."""
        each = np.ones(len(labels), np.float32) if weights is None else weights
        ids, starts, marks, shares = (
            torch.from_numpy(array).to(device) for array in (tokens.ids, tokens.starts, labels, each)
        )
        longest = -(-int(tokens.lengths.max()) // 8) * 8
        return cls(ids.long(), starts, marks, shares, pad, size, capacity, longest, varlen)

    @property
    def fillers(self) -> int:
        """Number of filler texts: 1 unless `varlen`, because with padding each filler text costs as much as a real text."""
        return -(-self.capacity // self.longest) if self.varlen else 1

    def lay_out(self, rows: Tensor) -> dict[str, Tensor]:
        """Return consecutive batches of rows [n], stacked: the values of `pack` with a first dimension [batches].

        Also returns labels [batches, texts], -100 for missing rows, their row numbers and weights, and n_rows [batches].
        """
        batches, device = -(-len(rows) // self.size), rows.device
        places = torch.full((batches * self.size,), -1, device=device, dtype=torch.long)
        places[: len(rows)] = rows
        rows = places.view(batches, self.size)
        there, row = rows >= 0, rows.clamp(min=0)
        lengths = (self.starts[row + 1] - self.starts[row]) * there
        ends = lengths.cumsum(1)
        begin = torch.arange(self.fillers, device=device) * self.longest + ends[:, -1:]
        # texts, then fillers, then the end of the batch
        starts = torch.cat(
            [ends - lengths, begin.clamp(max=self.capacity), ends.new_full((batches, 1), self.capacity)], 1
        )
        slot = torch.arange(self.capacity, device=device).expand(batches, -1).contiguous()
        text = torch.searchsorted(starts[:, 1:].contiguous(), slot, right=True)
        positions = slot - starts.gather(1, text)
        real = text < self.size
        source = self.starts[row].gather(1, text.clamp(max=self.size - 1)) + positions
        ids = torch.where(real, self.ids[source.where(real, 0)], self.pad)
        valid = torch.arange(self.longest, device=device) < starts.diff(dim=1)[..., None]
        valid[..., 0] = True  # a softmax over nothing would be NaN
        labels = torch.full((batches, self.size + self.fillers), -100, device=device, dtype=torch.long)
        labels[:, : self.size] = torch.where(there, self.labels[row], -100)
        weights = torch.ones(labels.shape, device=device)
        weights[:, : self.size] = self.weights[row]
        return {
            "input_ids": ids,
            "positions": positions * real,
            "places": text * self.longest + positions.clamp(max=self.longest - 1),  # overlaps if all filler is one text
            "starts": starts.int(),
            "valid": valid[:, :, None, None, :],
            "labels": labels,
            "rows": functional.pad(row, (0, self.fillers)),
            "weights": weights,
            "n_rows": there.sum(1),
        }


def capacity(lengths: Indices, orders: Iterable[Indices], size: int, multiple: int = 64) -> int:
    """Return the number of tokens of the largest batch over all `orders` of the rows, rounded up to `multiple`."""
    most = 0
    for order in orders:
        ends = np.concatenate([[0], np.cumsum(lengths[order])])
        cuts = np.append(np.arange(0, len(order), size), len(order))
        most = max(most, int(np.diff(ends[cuts]).max()))
    return -(-most // multiple) * multiple
