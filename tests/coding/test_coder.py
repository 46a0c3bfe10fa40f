"""A run's model codes texts: every text once, in the order given, alike however it is batched."""

import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kjcm.coding.coder import Coder, Ready, Torch, ahead, resolve_precision, token_batches
from kjcm.errors import ConfigError, KjcmError
from kjcm.run_folder.model_folder import load_model
from kjcm.triage.calibration import probabilities

TEXTS = [
    "은행(에서) 예금 상담",
    "택시 운전",
    "○○초등학교(에서) 학생 가르침",
    "논(에서) 벼농사",
    "택시 운전",
    "",
    "은행(에서) 예금 상담",
]


def test_batches_hold_every_text_once_and_no_more_tokens_than_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(2, 40, 1000)
    batches = list(token_batches(lengths, 64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert all(len(rows) * lengths[rows].max() <= 64 for rows in batches)
    assert all(lengths[a].min() >= lengths[b].max() for a, b in pairwise(batches))
    # as full as can be: one text more would be beyond the budget
    assert all((len(rows) + 1) * lengths[rows].max() > 64 for rows in batches[:-1])
    assert [rows.tolist() for rows in token_batches(np.array([9, 0, 3]), 4)] == [[0], [2], [1]]
    assert list(token_batches(np.array([], np.int64), 4)) == []


def test_codes_come_in_the_order_of_the_texts_and_do_not_depend_on_batches(finished: Path) -> None:
    alone = Coder(finished / "model", 1, "cpu", "32-true")
    one_by_one = np.concatenate([alone.code([text]) for text in TEXTS])
    assert one_by_one.shape == (len(TEXTS), len(alone.settings.classes)) and one_by_one.sum(axis=1) == pytest.approx(1)
    for size in (None, 1, 1000):
        coded = Coder(finished / "model", size, "cpu", "32-true").code(TEXTS)
        np.testing.assert_allclose(coded, one_by_one, atol=1e-6)
    assert alone.code([]).shape == (0, one_by_one.shape[1])


def test_a_text_is_coded_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coder, met = Coder(finished / "model", None, "cpu", "32-true"), []
    ready = coder.ready
    monkeypatch.setattr(coder, "ready", lambda texts: (met.extend(texts), ready(texts))[1])
    coded = coder.code(TEXTS)
    assert met == list(dict.fromkeys(TEXTS))
    assert (coded[1] == coded[4]).all() and (coded[0] == coded[6]).all()


def test_a_temperature_divides_the_logits(finished: Path) -> None:
    plain, warm = (Coder(finished / "model", None, "cpu", "32-true", at).code(TEXTS) for at in (1.0, 2.0))
    np.testing.assert_allclose(warm, np.sqrt(plain) / np.sqrt(plain).sum(axis=1, keepdims=True), atol=1e-6)


def test_probabilities_near_one_are_told_apart_as_by_what_sets_the_thresholds(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    coder = Coder(finished / "model", None, "cpu", "32-true")
    logits = np.array([[20, 0, 1], [19, 0, 1]], np.float32)
    monkeypatch.setattr(coder.forward, "logits", lambda batches: iter([torch.from_numpy(logits)]))
    found = coder.probabilities(Ready([np.array([1, 0])], [None]))
    np.testing.assert_allclose(found, probabilities(logits)[::-1], rtol=1e-12)
    assert 0 < found[0, 0] < found[1, 0] < 1 and found.astype(np.float32)[:, 0].tolist() == [1, 1]


def test_packed_and_padded_batches_give_the_same(finished: Path) -> None:
    import torch

    coder = Coder(finished / "model", None, "cpu", "32-true")
    padded = coder.code(TEXTS)
    assert "attention_mask" in coder.ready(TEXTS).batches[0]
    model, *_ = load_model(finished / "model")
    coder.forward = Torch(model, 1, torch.device("cpu"), half=False, packed=True)  # as on a GPU
    assert "starts" in coder.ready(TEXTS).batches[0]
    np.testing.assert_allclose(coder.code(TEXTS), padded, atol=1e-5)


def test_bfloat16_is_near_float32(finished: Path) -> None:
    half, whole = (Coder(finished / "model", None, "cpu", precision).code(TEXTS) for precision in ("bf16", "32-true"))
    assert np.abs(half - whole).max(axis=1).mean() < 0.02
    assert half.dtype == np.float64 and (half != whole).any()


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_compiled_once_for_batches_of_all_sizes_and_codes_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    import torch

    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward  # as it is: in a third of the time

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()  # what other tests have compiled counts
    coder = Coder(finished / "model", 3, "cpu", "32-true", compiled=True)
    expected = Coder(finished / "model", 3, "cpu", "32-true").code(TEXTS)
    if packed:  # as on a GPU
        model, *_ = load_model(finished / "model")
        coder.forward = Torch(model, 1, torch.device("cpu"), half=False, packed=True, compiled=True)
    np.testing.assert_allclose(coder.code(TEXTS), expected, atol=1e-5)
    coder.code(["택시 운전"])  # torch has a shape of its own for a single text
    assert len(graphs) == 2
    with torch.compiler.set_stance("fail_on_recompile"):
        for length in (3, 20):
            texts = [f"{'벼농사 ' * length}{number}" for number in range(7)]
            assert coder.code(texts).shape == (7, expected.shape[1])


def test_what_cannot_be_compiled_is_said(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch._dynamo.exc import InternalTorchDynamoError

    def fails(*_: object, **__: object) -> None:
        raise InternalTorchDynamoError("Failed to find C compiler.")

    with pytest.raises(ConfigError, match="precision=int8 runs in ONNX Runtime"):
        Coder(finished / "model", None, "cpu", "int8", compiled=True)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    with pytest.raises(KjcmError, match=r"compile=true: .*C compiler"):
        Coder(finished / "model", None, "cpu", "32-true", compiled=True).code(TEXTS)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("precision", "most"), [("32-true", 1e-4), ("bf16", 0.02)])
def test_a_card_codes_as_the_processor_does(finished: Path, precision: str, most: float, compiled: bool) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    expected = Coder(finished / "model", None, "cpu", "32-true").code(TEXTS)
    for size in (None, 1):
        found = Coder(finished / "model", size, "gpu", precision, compiled=compiled).code(TEXTS)
        assert np.abs(found - expected).max(axis=1).mean() < most


def test_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"amx_bf16": has})
        # an older card emulates it: that is not computing in it
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: including_emulation or has
        )
        assert {resolve_precision("auto", gpu) for gpu in (True, False)} == {"bf16" if has else "32-true"}
    assert resolve_precision("int8", gpu=False) == "int8"
    with pytest.raises(ConfigError, match="accelerator=cpu"):
        resolve_precision("int8", gpu=True)


def test_what_a_thread_makes_comes_in_order_and_so_does_its_error() -> None:
    def items() -> Iterator[tuple[int, str]]:
        for number in range(3):
            yield number, threading.current_thread().name
        raise ValueError("row 4 is broken")

    seen = []
    with pytest.raises(ValueError, match="row 4 is broken"):
        for number, thread in ahead(items()):
            seen.append(number)
            assert thread != threading.current_thread().name
    assert seen == [0, 1, 2]
    assert list(ahead(item for item in ())) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_closing_ends_what_the_items_come_from() -> None:
    ended = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            ended.append("source")

    def doubled(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            yield 2 * item

    first = source()
    second = ahead(first)
    third = ahead(doubled(second))
    assert next(third) == 0
    third.close()
    second.close()
    assert ended == ["source"] and next(first, None) is None


def test_no_more_than_one_item_is_made_ahead_and_closing_ends_the_thread() -> None:
    made = []
    items = ahead(made.append(number) or number for number in range(100))  # type: ignore[func-returns-value]
    assert next(items) == 0
    items.close()
    assert made in ([0], [0, 1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_transformers_own_pipeline_cuts_long_texts_where_coding_does(finished: Path) -> None:
    from transformers import AutoTokenizer, pipeline

    coder, folder = Coder(finished / "model", None, "cpu", "32-true"), str(finished / "model")
    assert AutoTokenizer.from_pretrained(folder).model_max_length == coder.settings.max_length
    texts = [TEXTS[0], *(f"{text} " * 200 + "택시 운전" for text in TEXTS[1:4])]
    found = pipeline("text-classification", folder, device="cpu")(texts, truncation=True)
    probable = coder.code(texts)
    assert [one["label"] for one in found] == [coder.settings.classes[place] for place in probable.argmax(axis=1)]
    assert [one["score"] for one in found] == pytest.approx(probable.max(axis=1), abs=1e-5)
