"""Which engine trains: what is asked for, and what device and encoder allow."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kjcm.engine.device import device_count, global_rank, on_gpu
from kjcm.errors import ConfigError

if TYPE_CHECKING:
    from kjcm.model.encoder import FirstToken, MeanPooled

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Engine:
    """How the steps of a training are run.

    Attributes:
        name: 'reference' (padded batches), 'packed' (without padding) or 'captured' (packed, many steps a call).
        attention_dropout: whether the attention's dropout applies.
        compiled: whether torch.compile makes a captured step's kernels.
        block: steps a call, None where each is a call of its own.
        strict: whether it was asked for by name, so that what it lacks is an error.
    """

    name: str
    attention_dropout: bool
    compiled: bool
    block: int | None
    strict: bool = False


def choose_engine(node: dict[str, Any], trainer: dict[str, Any], encoder: "MeanPooled | FirstToken") -> Engine:
    """Return the engine of an `engine` node.

    Raises:
        ConfigError: the one that is asked for by name cannot run this encoder on these devices.
    """
    from kjcm.model.encoder import can_pack

    name = node["name"]
    if name == "reference":
        return Engine("reference", True, False, None)
    if not can_pack(encoder):
        kind = encoder.config.model_type
        if name != "auto":
            raise ConfigError(f"engine={name} runs no encoder of the kind {kind}. Use engine=auto or engine=reference.")
        if global_rank() == 0:
            also = "" if node["attention_dropout"] == "exact" else ", with the attention's dropout"
            log.warning("no packed batches for encoders of the kind %s: engine=reference trains it%s", kind, also)
        return Engine("reference", True, False, None)
    able = _one_process(trainer) and trainer["precision"] != "16-mixed"
    if name == "captured" and not able:
        raise ConfigError(
            "engine=captured runs in one process, and scales no losses: use trainer.devices=1 and a trainer.precision other "
            "than 16-mixed, or engine=auto."
        )
    captured = name == "captured" or (name == "auto" and able and on_gpu(trainer["accelerator"]))
    return Engine(
        "captured" if captured else "packed",
        node["attention_dropout"] == "exact",
        node["compile"],
        node["block"] if captured else None,
        name == "captured",
    )


def _one_process(trainer: dict[str, Any]) -> bool:
    """Tell whether a trainer node means one process on one device."""
    import torch

    count = device_count(trainer["devices"])
    if count is None:
        count = torch.cuda.device_count() if on_gpu(trainer["accelerator"]) else 1
    return count == 1 and trainer["num_nodes"] == 1 and trainer["strategy"] == "auto"
