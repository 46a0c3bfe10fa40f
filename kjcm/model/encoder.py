"""Hugging Face encoders with a classification head: build them."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from kjcm.errors import ConfigError, KjcmError, first_line, some
from kjcm.hub_cache import folder_of
from kjcm.model.attention import PACKABLE, Layout, use_packed_attention
from kjcm.model.covariates import add_covariates
from kjcm.model.encoder_config import config_from
from kjcm.model.label_text import LabelText
from kjcm.model.last_layer import first_states, padded_first_only
from kjcm.model.layers import lower_states, upper_states
from kjcm.records import read_json, require_regular

MOST_WEIGHTS = 64 << 30  # bytes of a file in a pretrained folder
SAFE_FILES = ("config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
# Pickles, of which transformers unpickles only tensors (weights_only); fetched from the hub if it has no SAFE_FILES.
BIN_FILES = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")


class MeanPooled(nn.Module):
    """An encoder, the mean of its hidden states over the real tokens, dropout, and one linear layer or `LabelText`."""

    def __init__(self, encoder: PreTrainedModel, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # type: ignore[assignment] # DDP refuses weights without a gradient
        names = ("classifier_dropout", "hidden_dropout_prob", "dropout")  # BERT's two and DistilBERT's
        rates = [rate for name in names if (rate := getattr(config, name, None)) is not None]
        self.dropout = nn.Dropout(rates[0] if rates else 0.1)
        self.head: nn.Linear | LabelText = self.new_head(int(config.num_labels or 2))
        self.finer: nn.Linear | None = None  # in a training that learns the groups below the classes too

    def new_head(self, outputs: int) -> nn.Linear:
        """Return a linear layer over the mean with random weights."""
        linear = nn.Linear(self.config.hidden_size, outputs)
        nn.init.normal_(linear.weight, std=getattr(self.config, "initializer_range", 0.02))
        nn.init.zeros_(linear.bias)
        return linear

    @property
    def body(self) -> PreTrainedModel:
        """The encoder without its head."""
        return self.encoder

    @property
    def saved(self) -> nn.Module:
        """The module whose weights are saved."""
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [batch, classes]; input_ids and attention_mask: [batch, tokens]."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        return self._logits((hidden * mask).sum(1) / mask.sum(1))

    def packed(self, input_ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Return logits [texts, classes] of a packed batch; input_ids and positions: [tokens]."""
        return self.upper(lower_states(self.body, input_ids, positions, layout, 0), layout, 0)

    def upper(self, hidden: Tensor, layout: Layout, begin: int) -> Tensor:
        """Return logits [texts, classes], given the states [tokens, width] above the first `begin` layers."""
        return self._logits(self.pooled(hidden, layout, begin))

    def pooled(self, hidden: Tensor, layout: Layout, begin: int) -> Tensor:
        """Return the mean [texts, width] of the last hidden states, given those above the first `begin` layers."""
        hidden = upper_states(self.body, hidden, layout, begin)
        return layout.padded(hidden).sum(1) / layout.starts.diff().clamp(min=1)[:, None]

    def _logits(self, pooled: Tensor) -> Tensor:
        """Return logits [texts, classes]; in training those of `finer` follow."""
        logits: Tensor = self.head(pooled if isinstance(self.head, LabelText) else self.dropout(pooled))
        if self.finer is None or not self.training:
            return logits
        return torch.cat([logits, self.finer(self.dropout(pooled))], dim=1)


class FirstToken(nn.Module):
    """The architecture's own sequence classifier in transformers, with its head on the first token."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.classifier = classifier

    @property
    def config(self) -> PretrainedConfig:
        """The configuration of the encoder."""
        return self.classifier.config

    @property
    def body(self) -> PreTrainedModel:
        """The encoder without its head."""
        return cast(PreTrainedModel, self.classifier.base_model)

    @property
    def saved(self) -> nn.Module:
        """The module whose weights are saved."""
        return self.classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [batch, classes]; input_ids and attention_mask: [batch, tokens]."""
        return self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits  # type: ignore[no-any-return]

    def packed(self, input_ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Return logits [texts, classes] of a packed batch; input_ids and positions: [tokens]."""
        return self.upper(lower_states(self.body, input_ids, positions, layout, 0), layout, 0)

    def upper(self, hidden: Tensor, layout: Layout, begin: int) -> Tensor:
        """Return logits [texts, classes], given the states [tokens, width] above the first `begin` layers."""
        model, body = self.classifier, self.body
        if model.config.model_type == "distilbert":
            first = first_states(body, hidden, layout, begin)
            return model.classifier(model.dropout(model.pre_classifier(first).relu()))  # type: ignore[no-any-return, operator]
        hidden = upper_states(body, hidden, layout, begin)
        first = hidden[
            layout.starts[:-1].long().clamp(max=len(hidden) - 1)
        ]  # an empty text may begin after the last token
        if model.config.model_type == "bert":
            return model.classifier(model.dropout(body.pooler(first[:, None])))  # type: ignore[no-any-return, operator]
        return model.classifier(first[:, None])  # type: ignore[no-any-return, operator] # ELECTRA's and RoBERTa's heads


def can_pack(model: MeanPooled | FirstToken) -> bool:
    """Prepare an encoder for packed batches; return whether its architecture supports them."""
    if model.config.model_type not in PACKABLE:
        return False
    use_packed_attention(model.encoder if isinstance(model, MeanPooled) else model.classifier)
    return True


def for_padded_coding(model: MeanPooled | FirstToken) -> None:
    """Leave out computations that no logit of a padded batch needs; the model can no longer be trained."""
    if isinstance(model, FirstToken) and model.config.model_type == "distilbert":
        padded_first_only(model.classifier.base_model)


def build_encoder(
    *,
    pretrained: str | None,
    shape: Mapping[str, Any] | None,
    pooling: str,
    classes: int,
    vocabulary: int,
    pad: int,
    max_length: int,
    seed: int,
    finer: int = 0,
    covariates: int = 0,
) -> MeanPooled | FirstToken:
    """Return an encoder with a head for `classes` classes.

    Args:
        pretrained: hub name or folder; None: random weights of `shape`.
        shape: model_type and sizes, with transformers' names.
        pooling: 'cls' (transformers' own head) or 'mean'.
        classes: number of classes.
        vocabulary: number of tokens of the tokenizer.
        pad: the tokenizer's padding id.
        max_length: most tokens of a text.
        seed: seeds.init.
        finer: number of groups one level below the classes that it learns too; with `pooling` mean.
        covariates: columns of the rows' covariates.

    Raises:
        KjcmError: the weights cannot be loaded.
        ConfigError: tokenizer and weights do not fit, or `max_length` exceeds the encoder's positions.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained is None:
            if shape is None:
                raise ConfigError("model.pretrained=null needs model.shape: model_type and sizes of a random start.")
            sizes = {**shape, "vocab_size": vocabulary, "pad_token_id": pad, "num_labels": classes}
            try:
                model = new_encoder(AutoConfig.for_model(**sizes), pooling)
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigError(f"model.shape={dict(shape)} makes no encoder: {first_line(error)}") from None
        else:
            model = _from_pretrained(pretrained, pooling, classes)
        if finer and isinstance(model, MeanPooled):
            model.finer = model.new_head(finer)
        if covariates:
            add_covariates(model, classes, covariates)
    _require_fit(model.config, pretrained, vocabulary, pad, max_length)
    return model.train()  # transformers loads in eval mode, and Lightning keeps modes


def build_masked(
    *, pretrained: str | None, shape: Mapping[str, Any] | None, vocabulary: int, pad: int, max_length: int, seed: int
) -> PreTrainedModel:
    """Return an encoder with a head that predicts tokens; arguments and errors as in `build_encoder`.

    The head of weights that have none starts at random.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained is None:
            if shape is None:
                raise ConfigError("model.pretrained=null needs model.shape: model_type and sizes of a random start.")
            sizes = {**shape, "vocab_size": vocabulary, "pad_token_id": pad}
            try:
                model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(**sizes))  # type: ignore[no-untyped-call]
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigError(f"model.shape={dict(shape)} makes no encoder: {first_line(error)}") from None
        else:
            model, _ = _loaded(pretrained, AutoModelForMaskedLM, {})
    _require_fit(model.config, pretrained, vocabulary, pad, max_length)
    return model.train()  # type: ignore[no-any-return]


def _require_fit(config: PretrainedConfig, pretrained: str | None, vocabulary: int, pad: int, max_length: int) -> None:
    """Raise ConfigError if an encoder has too few tokens or positions."""
    if config.vocab_size < vocabulary:
        raise ConfigError(
            f"The tokenizer has {vocabulary:,} tokens and {pretrained} only {config.vocab_size:,}: they do not "
            "belong together. Use the model's own tokenizer (tokenizer=huggingface, or tokenizer=kobert)."
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and "roberta" in config.model_type:
        positions -= pad + 1  # positions begin after the padding's
    if positions is not None and max_length > positions:
        raise ConfigError(f"model.max_length={max_length}: this encoder has {positions} positions. Use at most that.")


def new_encoder(config: PretrainedConfig, pooling: str) -> MeanPooled | FirstToken:
    """Return an encoder with random weights."""
    if pooling == "mean":
        return MeanPooled(AutoModel.from_config(config), config)  # type: ignore[no-untyped-call]
    return FirstToken(AutoModelForSequenceClassification.from_config(config))  # type: ignore[no-untyped-call]


def _from_pretrained(name: str, pooling: str, classes: int) -> MeanPooled | FirstToken:
    kind = AutoModel if pooling == "mean" else AutoModelForSequenceClassification
    model, config = _loaded(name, kind, {"num_labels": classes})
    return MeanPooled(model, config) if pooling == "mean" else FirstToken(model)


def _loaded(name: str, kind: Any, labels: Mapping[str, int]) -> tuple[Any, PretrainedConfig]:
    """Return a transformers model of a class with the weights of a folder or the hub, and its configuration."""
    options = {"trust_remote_code": False, "local_files_only": True, "weights_only": True, "dtype": torch.float32}
    try:
        folder = folder_of(name, SAFE_FILES)
        if not any(folder.glob("model*.safetensors")):
            folder = folder_of(name, (*SAFE_FILES, *BIN_FILES))
        for file in folder.iterdir():
            if not file.is_dir():
                require_regular(file, MOST_WEIGHTS)
        record = read_json(folder / "config.json", {})
        others = {key: value for key, value in record.items() if key not in ("id2label", "label2id")}
        config = config_from(others, **labels)
        model, found = kind.from_pretrained(str(folder), config=config, output_loading_info=True, **options)
        body = [key for key in model.state_dict() if kind is AutoModel or key.startswith(f"{model.base_model_prefix}.")]
        if 2 * len(set(found["missing_keys"]) & set(body)) > len(
            body
        ):  # transformers only warns and starts them at random
            raise ValueError(f"they are of another kind of model; missing are {some(sorted(found['missing_keys']))}")
    except Exception as error:  # OSError, ValueError, SafetensorError, ...
        raise KjcmError(
            f"model.pretrained={name}: no weights could be loaded ({first_line(error)}). Give model.pretrained=FOLDER with "
            "config.json and model.safetensors, model.pretrained=null for a random start, or model=tiny."
        ) from None
    return model, config
