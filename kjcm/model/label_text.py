"""A head that scores a text's vector against the vectors of each class's titles."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kjcm.errors import ConfigError, some
from kjcm.model.layers import FrozenStates, text_vectors
from kjcm.text.tokens import Tokens

BEST_TITLES = 3  # titles of the mean
SCALE = 20.0  # at the start; half of it where a linear layer adds its cosines
FILLER = -2.0  # below every cosine
CENTRED = 512  # first training texts, whose mean vector is the centre of texts


class LabelText(nn.Module):
    """Cosines between a text and the titles of each class, both centred; the learnt scale turns them into logits.

    A class's score is a learnt mix of its best title's cosine and the mean of its best three. `refresh` sets the titles'
    vectors; they have no gradient.

    Args:
        width: of the vectors.
        titles: number of titles.
        classes: number of classes.
        most: titles of the class with most titles.
        both: add the logits of a linear layer.
        dropout: rate of dropout on the text's centred vector.

    Attributes:
        vectors: [titles, width], centred and of unit length.
        centre: [width], the mean vector of texts.
        places: [classes, most], each class's titles, filled up with the number of titles.
    """

    vectors: Tensor
    centre: Tensor
    places: Tensor

    def __init__(self, width: int, titles: int, classes: int, most: int, *, both: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((1,), SCALE / (2 if both else 1)).log())
        self.mix = nn.Parameter(torch.zeros(1))
        self.linear = nn.Linear(width, classes) if both else None
        self.register_buffer("vectors", torch.zeros(titles, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("places", torch.full((classes, most), titles))

    @classmethod
    def of(
        cls, width: int, title_classes: Sequence[int], classes: Sequence[str], *, both: bool, dropout: float
    ) -> "LabelText":
        """Return a head for the titles of classes.

        Args:
            width: of the vectors.
            title_classes: class index of each title.
            classes: ordered codes.
            both: whether the head has a linear layer too.
            dropout: rate.

        Raises:
            ConfigError: a class has no title.
        """
        own: list[list[int]] = [[] for _ in classes]
        for title, index in enumerate(title_classes):
            own[index].append(title)
        if without := [code for code, titles in zip(classes, own, strict=True) if not titles]:
            raise ConfigError(
                f"model.head: {some(without)} have no title to compare texts with. Set classification.path=FILE with their "
                "titles, or model.head=linear."
            )
        head = cls(width, len(title_classes), len(classes), max(map(len, own)), both=both, dropout=dropout)
        for index, titles in enumerate(own):
            head.places[index, : len(titles)] = torch.tensor(titles)
        return head

    def refresh(self, titles: Tensor, centre: Tensor) -> None:
        """Set the vectors of the titles, [titles, width], and the mean vector of texts, [width]."""
        self.vectors.copy_(functional.normalize(titles - titles.mean(0), dim=1))
        self.centre.copy_(centre)

    def begin(self) -> None:
        """Set the linear layer to the classes' mean title vectors, on the scale of the cosines' logits."""
        if self.linear is not None:
            titles = functional.pad(self.vectors, (0, 0, 0, 1))[self.places]  # [classes, most, width], fillers 0
            with torch.no_grad():
                self.linear.weight.copy_(functional.normalize(titles.sum(1), dim=1))
                self.linear.bias.zero_()

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits [texts, classes] of mean-pooled hidden states [texts, width]."""
        texts = functional.normalize(self.dropout(pooled - self.centre), dim=1)
        cosines = functional.pad(texts @ self.vectors.T, (0, 1), value=2 * FILLER)[:, self.places]
        best = cosines.topk(min(BEST_TITLES, cosines.shape[2]), dim=2).values  # fillers last
        real = (best > FILLER).to(best.dtype)
        share = self.mix.sigmoid()
        scores = share * best[..., 0] + (1 - share) * (best * real).sum(2) / real.sum(2)
        if self.linear is not None:
            scores = scores + self.linear(texts)
        return self.scale.exp() * scores


def refresh_titles(
    encoder: Any,
    tokens: Mapping[str, Tokens],
    device: torch.device,
    frozen: Mapping[str, FrozenStates],
    *,
    begin: bool = False,
) -> None:
    """Recompute the titles' vectors from the present weights, if the encoder's head compares texts with titles.

    Args:
        encoder: the encoder with its head.
        tokens: of 'train' and, for such a head, of 'titles'.
        device: the encoder's.
        frozen: the stored states of these texts, as far as there are any.
        begin: whether the training begins, so that a linear layer begins at the titles' vectors.
    """
    if not isinstance(head := getattr(encoder, "head", None), LabelText):
        return
    few = Tokens(tokens["train"].ids, tokens["train"].starts[: CENTRED + 1])
    titles = text_vectors(encoder, tokens["titles"], device, frozen.get("titles"))
    head.refresh(titles, text_vectors(encoder, few, device, frozen.get("train")).mean(0))
    if begin:
        head.begin()
