"""Run one step many times over the same input tensors: on a GPU from a CUDA graph, on a CPU by calling the step."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP = 3  # steps before a capture, as PyTorch requires: libraries choose their kernels there


class Steps:
    """Run `step` over the tensors `inputs`; a captured graph reads them at their addresses.

    Args:
        step: reads `inputs` and changes weights, optimiser and sums in place; it copies no value to the host.
        inputs: the tensors that a step reads, by name.
        optimizer: the step's optimiser. After a capture its state is restored, and new state is zero.
    """

    def __init__(
        self, step: Callable[[], None], inputs: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self.step, self.inputs = step, inputs
        if next(iter(inputs.values())).device.type == "cuda":
            self.step = self._captured(optimizer)

    def run(self, batch: Mapping[str, Tensor]) -> None:
        """Run one step over the values in `batch`."""
        for name, place in self.inputs.items():
            place.copy_(batch[name], non_blocking=True)
        self.step()

    def _captured(self, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """Return the replay of a CUDA graph of the step; weights, optimiser and random generators are unchanged."""
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
            # Without `stream`, torch would capture on the GPU that captured first in this process.
            with torch.cuda.graph(graph, stream=side):
                self.step()
        restore(weights, values, optimizer, state)
        return graph.replay


Buffers = dict[str, Tensor]


def copied(state: Mapping[str, Tensor]) -> Buffers:
    """Return a copy of the tensors in an optimiser's state for one weight."""
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def restore(
    weights: list[Tensor], values: list[Tensor], optimizer: torch.optim.Optimizer, state: Mapping[Tensor, Buffers]
) -> None:
    """Restore weights and optimiser state in place; set the state of weights that are not in `state` to zero."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
            for name, now in optimizer.state[weight].items():
                if isinstance(now, Tensor):
                    now.copy_(state[weight][name]) if weight in state else now.zero_()
