"""What tests of training make: how a model learns, by few words."""

from kjcm.engine.learning import Learning
from kjcm.engine.schedules import Constant, Linear

OPTIMISERS = {"adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW"}
SCHEDULES = {"constant": Constant, "linear": Linear}


def learning_of(
    optimiser: str,
    lr: float,
    weight_decay: float = 0.0,
    warmup: float = 0.0,
    schedule: str = "constant",
    clip: float | None = None,
) -> Learning:
    """Return cross-entropy under an optimiser and a schedule."""
    node = {"_target_": OPTIMISERS[optimiser], "lr": lr, "weight_decay": weight_decay}
    return Learning(node, schedule=SCHEDULES[schedule](warmup), clip=clip)
