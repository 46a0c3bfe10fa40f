"""Masked-language modelling: an encoder with a head for tokens, and the module that trains it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from kjcm.engine.data import Batch
from kjcm.engine.learning import Learning
from kjcm.engine.resumable import Resumable
from kjcm.survey.cohort import hash_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEPT, RANDOM = 0.1, 0.1  # shares of the hidden tokens that stay, or become another token (Devlin et al. 2019)
IGNORED = -100  # target of a token that is not hidden, as torch's cross-entropy has it


class MaskedLanguage(Resumable):
    """An encoder that learns to predict hidden tokens.

    Args:
        encoder: a transformers model for masked-language modelling.
        tokenizer: its tokenizer.
        learning: optimiser, schedule and clipping.
        seed: with epoch, step and rank it determines a step's hidden tokens and dropout.
        share: share of a text's tokens to hide; at least one a text.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer: "PreTrainedTokenizerFast", learning: Learning, seed: int, share: float
    ) -> None:
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        super().__init__(encoder, (), hash_of(token for token, _ in vocabulary), learning, seed, fused=False)
        self.share, self.mask, self.size = share, int(tokenizer.mask_token_id), len(vocabulary)
        self.register_buffer("special", torch.tensor(sorted(set(tokenizer.all_special_ids))), persistent=False)
        self.validation_accuracy = MeanMetric()

    def total_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of the hidden tokens, times the rows."""
        inputs, targets = self.hide(batch["input_ids"])
        loss, _, count = self._predicted(inputs, batch["attention_mask"], targets)
        return loss / max(count, 1) * len(batch["labels"])

    def hide(self, ids: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens with some hidden, and the targets: both [texts, tokens].

        Args:
            ids: [texts, tokens].
            generator: of the random numbers; None: the device's own, which each step seeds.
        """
        noise, kind = (torch.rand(ids.shape, generator=generator, device=ids.device) for _ in range(2))
        special: Any = self.special
        noise = noise.masked_fill(torch.isin(ids, special), 2.0)
        hidden = (noise < self.share) | ((noise == noise.min(dim=1, keepdim=True).values) & (noise < 2.0))
        other = torch.randint(self.size, ids.shape, generator=generator, device=ids.device)
        shown = torch.where(kind < RANDOM, other, torch.where(kind < RANDOM + KEPT, ids, self.mask))
        return torch.where(hidden, shown, ids), torch.where(hidden, ids, IGNORED)

    def _predicted(self, inputs: Tensor, attention_mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the summed loss of the hidden tokens, how many are predicted right, and how many there are."""
        at = targets != IGNORED
        decoder: Any = self.encoder.get_output_embeddings()  # type: ignore[operator]
        # only the hidden tokens: logits of all tokens of a batch may need gigabytes
        handle = decoder.register_forward_pre_hook(lambda _, given: (given[0][at],))
        try:
            logits = self.encoder(input_ids=inputs, attention_mask=attention_mask).logits.float()
        finally:
            handle.remove()
        wanted = targets[at]
        loss = functional.cross_entropy(logits, wanted, reduction="sum")
        return loss, (logits.argmax(dim=1) == wanted).sum(), len(wanted)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add texts to the loss and the accuracy; the same tokens are hidden every time."""
        generator = torch.Generator(self.device).manual_seed(self.dropout_seed + batch_idx)
        with torch.autocast(self.device.type, enabled=False):
            inputs, targets = self.hide(batch["input_ids"], generator)
            loss, right, count = self._predicted(inputs, batch["attention_mask"], targets)
        if count:
            self.validation_loss.update(loss / count, count)
            self.validation_accuracy.update(right / count, count)

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy of the hidden tokens."""
        of_an_epoch = self.trainer.state.fn == "fit"
        self.log("val_loss", self.validation_loss, prog_bar=True, logger=of_an_epoch)
        self.log("val_accuracy", self.validation_accuracy, logger=of_an_epoch)
