"""The keys of `kjcm doctor`."""

from dataclasses import dataclass

from kjcm.keys.key import key


@dataclass
class DoctorConfig:
    """Report what will work on this machine: device, bf16, hub, tokenizers, W&B mode, versions."""

    tokenizer_path: str | None = key(
        "KoBERT's SentencePiece file, or its folder, to check; null: the hub's.", path=True
    )
    hub: bool = key("`false`: do not try to reach the hub.")
