"""The encoder with its head: the same step as plain transformers and torch, and its folder on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from kjcm.engine.module import Classifier
from kjcm.errors import ConfigError, KjcmError
from kjcm.model.encoder import FirstToken, MeanPooled, build_encoder
from kjcm.model.encoder_files import load_encoder, save_encoder
from tests.engine.making import learning_of

DISTILBERT = {
    "model_type": "distilbert", "n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 16,
    "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
}  # fmt: skip
BERT = {
    "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "distilbert": DISTILBERT,
    "bert": {"model_type": "bert", **BERT},
    "electra": {"model_type": "electra", "embedding_size": 16, **BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", "bos_token_id": 2, "eos_token_id": 3, **BERT},
}
CLASSES, VOCABULARY, PAD = 5, 50, 1


class Alone:
    """What a training step asks its trainer."""

    world_size = 1
    barebones = True  # logs go nowhere


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def build(pooling: str = "cls", shape: dict[str, Any] | None = None, **changed: Any) -> MeanPooled | FirstToken:
    options = {
        "pretrained": None,
        "classes": CLASSES,
        "vocabulary": VOCABULARY,
        "pad": PAD,
        "max_length": 12,
        "seed": 0,
    }
    return build_encoder(**{**options, "shape": shape or DISTILBERT, "pooling": pooling, **changed})


def batch(rows: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Return rows of 3 to 9 tokens, padded."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 10, (rows, 1), generator=generator)
    lengths[0] = 9
    mask = (torch.arange(9)[None] < lengths).long()
    ids = torch.randint(5, VOCABULARY, (rows, 9), generator=generator)
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    return {
        "input_ids": ids * mask + PAD * (1 - mask), "attention_mask": mask, "labels": labels,
        "rows": torch.arange(rows), "of_rows": torch.tensor(rows),
    }  # fmt: skip


def same_state(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_one_step_equals_plain_transformers_and_torch(optimiser: str) -> None:
    encoder = build()
    sizes = {name: value for name, value in DISTILBERT.items() if name != "model_type"}
    config = DistilBertConfig(**sizes, vocab_size=VOCABULARY, pad_token_id=PAD, num_labels=CLASSES)
    plain = DistilBertForSequenceClassification(config)
    plain.load_state_dict(encoder.classifier.state_dict())
    rows = batch()

    theirs = cross_entropy(plain(rows["input_ids"], attention_mask=rows["attention_mask"]).logits, rows["labels"])
    theirs.backward()
    rate, decay = 2e-5, 0.0 if optimiser == "adam" else 0.01
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser]
    kind(plain.parameters(), lr=rate, weight_decay=decay).step()

    module = Classifier(encoder, list("abcde"), "hash", learning_of(optimiser, rate, weight_decay=decay), 0)
    module.trainer = alone = Alone()  # noqa: F841 - the module keeps only a weak reference
    ours = module.training_step(rows)
    ours.backward()
    module.new_optimizer().step()

    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    found = dict(encoder.classifier.named_parameters())
    assert found.keys() == dict(plain.named_parameters()).keys()
    start = build().classifier.state_dict()
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(found[name].grad, weight.grad, rtol=1e-4, atol=1e-8, msg=name)
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-2 * rate, msg=name)
        assert not torch.equal(found[name], start[name]), f"{name} did not move"


def test_mean_pooling_by_hand() -> None:
    model, rows = build("mean").eval(), batch()
    with torch.no_grad():
        hidden = model.encoder(rows["input_ids"], attention_mask=rows["attention_mask"]).last_hidden_state
        means = torch.stack([hidden[i, : int(n)].mean(0) for i, n in enumerate(rows["attention_mask"].sum(1))])
        wanted = means @ model.head.weight.T + model.head.bias
        found = model(rows["input_ids"], rows["attention_mask"])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert found.shape == (6, CLASSES)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_padding_changes_nothing(pooling: str, shape: dict[str, Any]) -> None:
    model, rows = build(pooling, shape).eval(), batch()
    with torch.no_grad():
        together = model(rows["input_ids"], rows["attention_mask"])
        for i, length in enumerate(rows["attention_mask"].sum(1).tolist()):
            alone = model(rows["input_ids"][i : i + 1, :length], rows["attention_mask"][i : i + 1, :length])
            torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_seed_decides_the_weights_and_nothing_else(pooling: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(pooling)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_state(first, build(pooling))
    assert not same_state(first, build(pooling, seed=1))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_saved_and_loaded(pooling: str, shape: dict[str, Any], tmp_path: Path) -> None:
    model, rows = build(pooling, shape).eval(), batch()
    save_encoder(model, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]  # no pickle
    again = load_encoder(tmp_path, pooling).eval()
    assert same_state(model, again)
    with torch.no_grad():
        wanted = model(rows["input_ids"], rows["attention_mask"])
        assert torch.equal(again(rows["input_ids"], rows["attention_mask"]), wanted)
        if pooling == "cls":
            plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
            found = plain(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pretrained_weights_and_a_new_head(pooling: str, tmp_path: Path) -> None:
    sizes = {name: value for name, value in DISTILBERT.items() if name != "model_type"}
    torch.manual_seed(3)
    published = DistilBertForMaskedLM(DistilBertConfig(**sizes, vocab_size=VOCABULARY, pad_token_id=PAD))
    published.save_pretrained(tmp_path)
    first, second = (build(pooling, pretrained=str(tmp_path), seed=seed) for seed in (0, 1))
    body = [model.encoder if pooling == "mean" else model.classifier.distilbert for model in (first, second)]
    assert same_state(body[0], published.distilbert) and same_state(body[1], published.distilbert)
    assert not same_state(first, second)
    assert all(module.training for module in first.modules())  # or nothing would drop out while it learns
    assert same_state(first, build(pooling, pretrained=str(tmp_path)))
    assert first.config.num_labels == CLASSES


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("damage", ["no weights", "no config", "truncated", "empty", "other shape", "no text"])
def test_damaged_folder(pooling: str, damage: str, tmp_path: Path) -> None:
    save_encoder(build(pooling), tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage in ("no weights", "no config"):
        (weights if damage == "no weights" else config).unlink()
    elif damage in ("truncated", "empty"):
        weights.write_bytes(weights.read_bytes()[: -100 if damage == "truncated" else 0])
    elif damage == "other shape":
        config.write_text(json.dumps({**json.loads(config.read_text()), "dim": 64}))
    else:
        config.write_text('{"model_type": "distilb')
    with pytest.raises(KjcmError, match="the model cannot be loaded, it is incomplete or damaged") as caught:
        load_encoder(tmp_path, pooling)
    assert str(tmp_path) in str(caught.value)


def test_folder_of_the_other_pooling(tmp_path: Path) -> None:
    save_encoder(build("mean"), tmp_path)
    with pytest.raises(KjcmError, match="cannot be loaded"):
        load_encoder(tmp_path, "cls")


def test_pretrained_that_is_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(KjcmError, match=r"model\.pretrained=.*no weights could be loaded.*model=tiny"):
        build(pretrained=str(tmp_path / "absent"))
    save_encoder(build(), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(KjcmError, match="no weights could be loaded"):
        build(pretrained=str(tmp_path))


def test_tokenizer_larger_than_the_weights(tmp_path: Path) -> None:
    save_encoder(build(), tmp_path)
    with pytest.raises(ConfigError, match=r"51 tokens and .* only 50"):
        build(pretrained=str(tmp_path), vocabulary=51)
    assert build(pretrained=str(tmp_path), vocabulary=50).config.vocab_size == 50


def test_random_start_needs_a_shape() -> None:
    with pytest.raises(ConfigError, match=r"model\.shape"):
        build_encoder(pretrained=None, shape=None, pooling="cls", classes=2, vocabulary=9, pad=1, max_length=4, seed=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_length_that_is_accepted_can_be_computed(shape: dict[str, Any]) -> None:
    """Of the 16 positions here, RoBERTa's kind spends the first ones on padding."""
    with pytest.raises(ConfigError, match=r"model\.max_length=17"):
        build("cls", shape, max_length=17)
    for length in range(12, 17):
        try:
            model = build("cls", shape, max_length=length)
        except ConfigError:
            break
        ids = torch.full((1, length), 7)
        assert model(ids, torch.ones_like(ids)).shape == (1, CLASSES)
