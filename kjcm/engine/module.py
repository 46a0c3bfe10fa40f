"""The LightningModule: an encoder with its loss, optimiser, schedule and metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

from kjcm.engine.data import Batch
from kjcm.engine.learning import Learning
from kjcm.engine.resumable import Resumable
from kjcm.engine.scores import Scores
from kjcm.metrics import SHOWN_CODES
from kjcm.model.attention import Layout, in_halves
from kjcm.model.covariates import covariates_of, plus_covariates
from kjcm.model.label_text import refresh_titles
from kjcm.model.layers import FrozenStates


@dataclass(frozen=True)
class Predictions:
    """The most probable codes of many rows.

    Attributes:
        rows: [rows], row numbers.
        top: [rows, k], class indices, most probable first.
        prob: [rows, k], probabilities of `top`.
        logits: [rows, classes], float32.
    """

    rows: Tensor
    top: Tensor
    prob: Tensor
    logits: Tensor


class Classifier(Resumable):
    """An encoder that learns the classes of a cohort.

    Args:
        encoder: returns logits [batch, classes] for input_ids and attention_mask [batch, tokens].
        classes: the ordered codes; every checkpoint contains them.
        classes_hash: hash of `classes`.
        learning: loss, optimiser and schedule; None for a module that is only evaluated.
        dropout_seed: the config's seeds.dropout; with epoch, step and rank it determines a step's dropout.
        unseen: for 'validation' and 'test', the number of codes that are not classes; their rows count as errors.
        metrics: function that builds further metrics for a number of classes.
        fused: whether to use the optimiser's fused kernel.
        attention_dropout: whether dropout applies to the attention of packed batches.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: Sequence[str],
        classes_hash: str,
        learning: Learning | None = None,
        dropout_seed: int = 0,
        unseen: Mapping[str, int] | None = None,
        metrics: Callable[[int], Mapping[str, Metric]] | None = None,
        *,
        fused: bool = False,
        attention_dropout: bool = True,
    ) -> None:
        super().__init__(encoder, classes, classes_hash, learning, dropout_seed, fused=fused)
        self.attention_dropout = attention_dropout
        if learning is not None:
            self.loss = learning.loss  # as a submodule: a loss may have weights
            self.finer = learning.finer
        self.validation_scores, self.test_scores = (
            Scores(len(classes), (unseen or {}).get(side, 0), metrics) for side in ("validation", "test")
        )
        self.predicted: list[Predictions] = []  # of the last test
        self.validated: list[Predictions] = []  # of the last validation outside training
        self._frozen: dict[str, FrozenStates] = {}  # of sides, with `cache_frozen` while it trains

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [batch, classes]."""
        return plus_covariates(self._of_texts(batch), covariates_of(self.encoder), batch.get("covariates"))

    def _of_texts(self, batch: Batch) -> Tensor:
        if "attention_mask" in batch:
            return self.encoder(batch["input_ids"], batch["attention_mask"])  # type: ignore[no-any-return]
        layout = Layout(batch["starts"], batch["places"], batch["valid"], self.attention_dropout)
        if self.training and self.attention_dropout and self.device.type == "cpu":
            layout = in_halves(layout)
        if self.training and (frozen := self._frozen.get("train")):
            hidden = frozen.packed(batch["rows"], batch["positions"], layout)
            return self.encoder.upper(hidden, layout, frozen.layers)  # type: ignore[no-any-return, operator]
        return self.encoder.packed(batch["input_ids"], batch["positions"], layout)  # type: ignore[no-any-return, operator]

    def measured(self, batch: Batch) -> Tensor:
        """Return logits in float32 whatever the training precision, so that every device evaluates the same model."""
        with torch.autocast(self.device.type, enabled=False):
            return self(batch).float()  # type: ignore[no-any-return]

    def on_train_epoch_start(self) -> None:
        """Count steps from 0 in a new epoch; compare with the titles by the present weights."""
        super().on_train_epoch_start()
        if not self.step:
            self._refresh_titles(begin=not self.trainer.global_step)

    def _refresh_titles(self, *, begin: bool = False) -> None:
        tokens = self.trainer.datamodule.tokens  # type: ignore[attr-defined]
        with self.trainer.precision_plugin.forward_context():
            refresh_titles(self.encoder, tokens, self.device, self._frozen, begin=begin)

    def total_loss(self, batch: Batch) -> Tensor:
        """Return the sum of the rows' losses, times their weights."""
        losses = self.losses(self(batch), batch["labels"], batch["rows"])
        return (losses * batch["weights"] if "weights" in batch else losses).sum()

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Return the losses of training rows; logits: [rows, classes], then those of `finer`, if learnt."""
        if self.finer is None:
            return self.loss(logits, labels)  # type: ignore[no-any-return]
        known = len(self.classes)
        return self.loss(logits[:, :known], labels) + self.finer(logits[:, known:], rows)  # type: ignore[no-any-return]

    def on_validation_epoch_start(self) -> None:
        """Discard the rows of an earlier validation; in training, compare with the titles by the present weights."""
        self.validated = []
        if self.trainer.state.fn == "fit":
            self._refresh_titles()

    def validation_step(self, batch: Batch) -> None:
        """Add rows to the validation loss and metrics; after the training, keep their logits."""
        logits = self.measured(batch)
        labels = batch["labels"]
        known = labels < len(self.classes)  # codes without training rows have no logit
        if known.any():
            loss = functional.cross_entropy(logits[known], labels[known])
            self.validation_loss.update(loss, int(known.sum()))
        self.validation_scores.update(logits, labels)
        if self.trainer.validating:
            self.validated.append(first_codes(logits, batch["rows"]))

    def on_validation_epoch_end(self) -> None:
        """Log validation loss and metrics; send them to loggers only after an epoch, not for the trained model."""
        values = {f"val_{name}": value for name, value in self.validation_scores.summary()[0].items()}
        of_an_epoch = self.trainer.state.fn == "fit"
        self.log("val_loss", self.validation_loss, prog_bar=True, logger=of_an_epoch)
        self.log_dict(values, sync_dist=False, rank_zero_only=False, logger=of_an_epoch)
        self.validation_scores.reset()

    def on_test_epoch_start(self) -> None:
        """Discard the rows of an earlier test."""
        self.predicted = []
        self.test_scores.reset()

    def test_step(self, batch: Batch) -> None:
        """Add rows to the test metrics and keep their most probable codes."""
        logits = self.measured(batch)
        self.test_scores.update(logits, batch["labels"])
        self.predicted.append(first_codes(logits, batch["rows"]))

    def on_train_start(self) -> None:
        """Set the optimiser's flags and schedule again; with `cache_frozen`, run the frozen layers once for each text."""
        super().on_train_start()
        if self._learning.groups.cache_frozen:
            tokens, layers = self.trainer.datamodule.tokens, self._learning.groups.freeze_layers  # type: ignore[attr-defined]
            with self.trainer.precision_plugin.forward_context():
                self._frozen = {
                    side: FrozenStates.of(self.encoder, tokens[side], layers, self.device)
                    for side in ("train", "titles")
                    if side in tokens
                }

    def on_train_end(self) -> None:
        """Free the memory of the frozen layers' output."""
        self._frozen = {}


def first_codes(logits: Tensor, rows: Tensor) -> Predictions:
    """Return each row's most probable codes with their probabilities; logits: float32 [rows, classes]."""
    prob, top = logits.softmax(dim=1).topk(min(SHOWN_CODES, logits.shape[1]), dim=1)
    return Predictions(rows.cpu(), top.cpu(), prob.cpu(), logits.cpu())
