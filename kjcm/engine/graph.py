"""One step, run many times over inputs that stay in place: captured in a CUDA graph, or as it is on a CPU."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP = 3  # steps before a capture, as PyTorch asks for: libraries choose their kernels in them


class Steps:
    """Runs `step` over the tensors `inputs`, whose addresses a captured graph reads.

    Args:
        step: reads `inputs` and changes weights, optimiser and sums in place; no value of it reaches the host.
        inputs: what a step reads.
        optimizer: its state is that of before, with zeros for what the warm-up made, when the first real step runs.
    """

    def __init__(
        self, step: Callable[[], None], inputs: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self.step, self.inputs = step, inputs
        if next(iter(inputs.values())).device.type == "cuda":
            self.step = self._captured(optimizer)

    def run(self, batch: Mapping[str, Tensor]) -> None:
        """Run one step over the values of `batch`."""
        for name, place in self.inputs.items():
            place.copy_(batch[name], non_blocking=True)
        self.step()

    def _captured(self, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """Capture the step in a CUDA graph; weights, optimiser and generators are as before."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        values = [weight.detach().clone() for weight in weights]
        state = {weight: copied(optimizer.state[weight]) for weight in weights if weight in optimizer.state}
        device = weights[0].device
        side, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(devices=[device]):
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.step()
            torch.cuda.current_stream(device).wait_stream(side)
            with torch.cuda.graph(graph, stream=side):  # torch's own stream is of the card that captured first
                self.step()
        restore(weights, values, optimizer, state)
        return graph.replay


Buffers = dict[str, Tensor]


def copied(state: Mapping[str, Tensor]) -> Buffers:
    """Return a copy of an optimiser's state of one weight."""
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def restore(
    weights: list[Tensor], values: list[Tensor], optimizer: torch.optim.Optimizer, state: Mapping[Tensor, Buffers]
) -> None:
    """Put weights and optimiser state back in place; state that is not in `state` becomes zero, as a new one is."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
            for name, now in optimizer.state[weight].items():
                if isinstance(now, Tensor):
                    now.copy_(state[weight][name]) if weight in state else now.zero_()
