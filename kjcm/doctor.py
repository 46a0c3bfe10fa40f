"""`kjcm doctor`: check what works on this machine."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omegaconf import DictConfig

from kjcm import __version__
from kjcm.engine.device import has_bf16, resolve_precision
from kjcm.errors import KjcmError
from kjcm.tracking.loggers import wandb_mode

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "sentencepiece", "torchmetrics", "hydra-core", "omegaconf",
            "pandas", "pyarrow", "scikit-learn", "wandb", "tensorboard", "mlflow-skinny", "trackio")  # fmt: skip
HUB_SECONDS = 5
GOLDEN = ("한국어 모델을 공유합니다.", [2, 4958, 6855, 2046, 7088, 1050, 7843, 54, 3])  # KoBERT's published example
PROBES = (
    "○○문화사 사무실(에서) 인쇄물 제조, 인쇄물 디자인", "@@원자력발전소 운전부(에서) 기계조작원(으로) 기계조작",
    "1,234원 8, 가8,나", "[SEP] 는 글자다", "ＡＢＣ ㎏ é ①", "", "\u1100\u1161\u11a8",
)  # fmt: skip

Finding = tuple[str, str]  # result, and a remedy or remark


def doctor(cfg: DictConfig) -> None:
    """Print one line per subject: device, bf16, hub access, tokenizer parity, W&B mode, versions."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    checks: dict[str, Callable[[], Finding]] = {
        "kjcm": lambda: (__version__, f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
        "device": _device,
        "bf16": _bf16,
        "hub": lambda: _hub(cfg.hub),
        "KoBERT's tokenizer": lambda: _kobert(cfg.tokenizer_path, cfg.hub),
        "trained tokenizer": _trained,
        "W&B": _wandb,
        "versions": _versions,
    }
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, check in checks.items():
        try:
            found, remark = check()
        except KjcmError as error:
            found, remark = "no", str(error)
        table.add_row(Text(name, "bold"), Text(found), Text(remark))
    Console().print(table)


def _device() -> Finding:
    import torch

    cpu = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        return "CPU", f"{cpu}; trainer=gpu, ddp and preset=full need a CUDA device"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{len(names)} GPU", f"{', '.join(names)}; {cpu}"


def _bf16() -> Finding:
    import torch

    own = has_bf16(torch.cuda.is_available())
    return "yes" if own else "no", f"trainer.precision=auto means {resolve_precision('auto', 'auto')} here"


def _hub(reach: bool) -> Finding:
    if not reach:
        return "not tried", "hub=false"
    from huggingface_hub import HfApi

    try:
        HfApi().model_info("monologg/distilkobert", timeout=HUB_SECONDS)
    except Exception as error:  # no network, no name, refused, offline mode: all mean the same here
        return "no", (
            f"{type(error).__name__}: give model.pretrained=FOLDER and tokenizer.path=FILE, or stay with model=tiny, which "
            "needs neither"
        )
    return "yes", "monologg/distilkobert can be fetched"


def _kobert(path: str | None, reach: bool) -> Finding:
    from kjcm.text.tokenizer import kobert_file
    from kjcm.text.unigram import read_unigram

    if path is None and not reach:
        return "not tried", "give tokenizer_path=FILE (spiece.model)"
    file = kobert_file(path)
    model = read_unigram(file, kobert=True)
    differing = _differences(model, [GOLDEN[0], *PROBES], str(file))
    if differing:
        return "no", f"{differing} of {len(PROBES) + 1} probes differ from SentencePiece: do not use it"
    golden = _ids(model, [GOLDEN[0]], str(file))[0]
    return (
        ("yes", f"{file}: equal to SentencePiece on {len(PROBES) + 1} probes, golden ids right")
        if golden == GOLDEN[1]
        else ("no", f"{file}: {GOLDEN[0]} gives {golden}, not KoBERT's {GOLDEN[1]}: this is another model")
    )


def _trained() -> Finding:
    from kjcm.ksco.classification import load_classification
    from kjcm.text.tokenizer import train_unigram

    model = train_unigram(list(load_classification("ksco7").titles.values()), 1000)
    differing = _differences(model, PROBES, "a trained model")
    return (
        ("yes", f"equal to SentencePiece on {len(PROBES)} probes") if not differing else ("no", f"{differing} differ")
    )


def _ids(model: Any, texts: Any, name: str) -> list[list[int]]:
    from kjcm.text.unigram import fast_tokenizer

    ids: list[list[int]] = fast_tokenizer(model, name)(list(texts))["input_ids"]
    return ids


def _differences(model: Any, texts: Any, name: str) -> int:
    from sentencepiece import SentencePieceProcessor

    from kjcm.text.unigram import reference_ids

    processor = SentencePieceProcessor(model_proto=model.data)
    return sum(
        fast != reference_ids(model, processor, text)
        for fast, text in zip(_ids(model, texts, name), texts, strict=True)
    )


def _wandb() -> Finding:
    mode = wandb_mode(None)
    remarks = {
        "offline": "runs are kept in the run folder; `kjcm wandb sync` sends them later, `wandb login` makes it online",
        "online": "logger=wandb sends what docs/wandb.md lists; texts of answers only with logger.wandb.share_text=true",
    }
    return mode, remarks.get(mode, "as WANDB_MODE says")


def _versions() -> Finding:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return "", ", ".join(found)
