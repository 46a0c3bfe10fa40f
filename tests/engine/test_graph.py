"""Steps over inputs that stay in place, and what a warm-up leaves behind: nothing."""

import pytest
import torch
from torch import nn

from kjcm.engine.captured import Steps, copied, restore


def test_steps_read_the_inputs_in_place() -> None:
    place, sums = torch.zeros(3), torch.zeros(3)
    steps = Steps(lambda: sums.add_(place), {"x": place}, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))
    for value in (1.0, 2.0):
        steps.run({"x": torch.full((3,), value)})
    assert sums.tolist() == [3.0, 3.0, 3.0] and place.tolist() == [2.0, 2.0, 2.0]


def stepped(model: nn.Linear, optimizer: torch.optim.Optimizer, times: int) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()


def test_restoring_undoes_a_warm_up_whether_the_optimiser_is_new_or_not() -> None:
    for before in (0, 4):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
        stepped(model, optimizer, before)
        weights = list(model.parameters())
        values = [weight.detach().clone() for weight in weights]
        state = {weight: copied(optimizer.state[weight]) for weight in weights if weight in optimizer.state}
        addresses = [weight.data_ptr() for weight in weights]
        stepped(model, optimizer, 3)
        restore(weights, values, optimizer, state)
        stepped(model, optimizer, 5)
        torch.manual_seed(0)
        expected = nn.Linear(3, 2)
        stepped(expected, torch.optim.Adam(expected.parameters(), lr=0.1, fused=True), before + 5)
        for weight, other in zip(weights, expected.parameters(), strict=True):
            assert torch.equal(weight, other)
        assert addresses == [weight.data_ptr() for weight in weights]


@pytest.mark.gpu
def test_a_seed_set_between_two_replays_decides_the_dropout_of_the_next() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda", 0)
    place, kept = torch.ones(10_000, device=device), torch.zeros(10_000, device=device)
    weight = nn.Parameter(torch.zeros(1, device=device))
    steps = Steps(
        lambda: kept.copy_(nn.functional.dropout(place, 0.5)), {"x": place}, torch.optim.SGD([weight], lr=0.1)
    )
    masks = []
    for seed in (7, 8, 7, None, 8):
        if seed is not None:  # as Classifier.seed_dropout does
            torch.cuda.default_generators[0].manual_seed(seed)
        steps.run({"x": torch.ones(10_000, device=device)})
        masks.append(kept.clone())
    first, second, again, further, second_again = masks
    assert torch.equal(first, again) and torch.equal(second, second_again)
    assert not torch.equal(first, second) and not torch.equal(further, again)
    assert float((first > 0).float().mean()) == pytest.approx(0.5, abs=0.05)
