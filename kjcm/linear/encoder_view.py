"""The view of an encoder: a field's embeddings, centred and perhaps whitened."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.keys.models import ViewConfig
from kjcm.linear.embedding import Embedder

SHRINK = 0.3  # share of the mean variance that whitening adds to the variance of each direction


class EncoderView:
    """The embeddings of one field: centred, whitened if asked, and of unit length; an empty text has zeros.

    Args:
        config: of the view.
        embedder: embeds the texts.
        mean: [width] mean of the training rows' embeddings; None: it is learnt by `fit`.
        matrix: [width, width] whitening; None: it is learnt by `fit`.
        whiten: whether `fit` learns a whitening; whitened cosines find worse neighbours.
    """

    terms: tuple[str, ...] = ()

    def __init__(
        self,
        config: ViewConfig,
        embedder: Embedder,
        mean: NDArray[np.float32] | None = None,
        matrix: NDArray[np.float32] | None = None,
        *,
        whiten: bool = True,
    ) -> None:
        self.config, self.embedder, self.whiten = config, embedder, whiten
        self.mean = mean if mean is not None else np.zeros(embedder.width, np.float32)
        self.matrix = matrix if matrix is not None else np.eye(embedder.width, dtype=np.float32)

    @property
    def size(self) -> int:
        """Return the number of columns."""
        return len(self.mean)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `fit` has learnt."""
        return {"mean": self.mean, "matrix": self.matrix}

    def as_read(self) -> "EncoderView":
        """Return the view as a later process reads it."""
        return self

    def fit(self, texts: Sequence[str]) -> Any:
        """Learn the mean and perhaps the whitening; return the rows of the training texts, [texts, width].

        Raises:
            ConfigError: no text has a character.
        """
        found = self.embedder([text for text in texts if text]).astype(np.float64)
        if not len(found):
            raise ConfigError(
                f"model.views: no training row has a text in {self.config.field}. Remove the view of "
                f"{self.config.field}, or map its column."
            )
        mean = found.mean(axis=0)
        self.mean = mean.astype(np.float32)
        if not self.whiten:
            return self.rows(texts)
        variances, directions = np.linalg.eigh(np.cov(found - mean, rowvar=False, bias=True))
        # the tiny number is for texts that are all equal
        scale = variances.clip(0) + SHRINK * variances.mean() + np.finfo(np.float32).tiny
        self.matrix = (directions / np.sqrt(scale)).astype(np.float32)
        return self.rows(texts)

    def rows(self, texts: Sequence[str]) -> Any:
        """Return the rows of texts, [texts, width]."""
        from scipy.sparse import csr_matrix

        found = (self.embedder(texts).astype(np.float64) - self.mean) @ self.matrix.astype(np.float64)
        found[[not text for text in texts]] = 0
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return csr_matrix(found / np.where(length > 0, length, 1))
