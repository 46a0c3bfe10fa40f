"""The encoder types that kjcm trains, and safe reading of their config.json."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from kjcm.errors import some
from kjcm.records import read_json

ENCODERS = (  # model_type of encoders tested with both heads
    "albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra",
    "ernie", "megatron-bert", "modernbert", "mpnet", "rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta",
    "xlm-roberta-xl",
)  # fmt: skip
# Further keys of a configuration: its labels, and keys that these encoders read although they are not fields.
MORE_KEYS = {
    "id2label", "label2id", "num_labels", "position_buckets", "norm_rel_ebd", "share_att_key", "conv_kernel_size", "conv_act",
    "pooler_hidden_size", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers", "embedding_size",
}  # fmt: skip
MOST = 10**8  # largest number in a configuration
LIMITS = {"num_labels": 10**5, "num_hidden_layers": 200, "n_layers": 200, "num_hidden_groups": 200}


def config_in(folder: Path) -> PretrainedConfig:
    """Return the configuration of an encoder's folder.

    Raises:
        KjcmError: config.json is missing or damaged.
        ValueError: see `config_from`.
    """
    return config_from(read_json(folder / "config.json", {"model_type": str}))


def config_from(record: dict[str, Any], **more: Any) -> PretrainedConfig:
    """Return the configuration of a config.json, without the keys that let transformers load code.

    Args:
        record: content of config.json.
        more: keys that replace those of the record.

    Raises:
        ValueError: the model_type is not in `ENCODERS`, or a number is larger than in any encoder.
    """
    kind = record.get("model_type")
    if kind not in ENCODERS:
        raise ValueError(f"kjcm trains no encoder of model_type {str(kind)[:40]!r}; it trains {', '.join(ENCODERS)}")
    of_the_kind = CONFIG_MAPPING[kind]
    own = {field.name for field in fields(of_the_kind)} - {field.name for field in fields(PretrainedConfig)}
    own |= {*of_the_kind.attribute_map, *MORE_KEYS}
    kept = {key: value for key, value in record.items() if key in own} | more
    numbers = {key: value for key, value in kept.items() if type(value) in (int, float)}
    if large := [key for key, value in numbers.items() if abs(value) > LIMITS.get(key, MOST)]:
        raise ValueError(f"{some(large)}: larger than in any encoder")
    return AutoConfig.for_model(kind, **kept)
