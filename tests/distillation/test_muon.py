"""Muon for the layers' matrices, and AdamW for the rest."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mpcify.conversion.convert import convert
from mpcify.distillation.muon import ROWS, Muon, polar
from mpcify.distillation.trainer import DistillationArguments, DistillationTrainer

Make = Callable[..., Any]


def moved(parameter: nn.Parameter, gradient: torch.Tensor, steps: int = 1, **options: Any) -> torch.Tensor:
    """The change of a parameter by some steps with one gradient."""
    before = parameter.detach().clone()
    optimizer = Muon([{"params": [parameter], "orthogonal": True}], **{"lr": 1e-2, "weight_decay": 0.0, **options})
    for _ in range(steps):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach() - before


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 7)])
def test_polar_keeps_directions_and_evens_their_sizes(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.mT @ polar(matrix) @ v.mT
    even = s >= 0.1 * s.max()
    assert torch.allclose(found, torch.diag(found.diagonal()), atol=1e-9)
    assert ((found.diagonal()[even] > 0.6) & (found.diagonal()[even] < 1.3)).all()


def test_polar_of_nothing_is_nothing() -> None:
    assert (polar(torch.zeros(3, 5)) == 0).all()


@pytest.mark.parametrize("shape", [(ROWS, 64), (2 * ROWS, 96), (2 * ROWS + 10, 32), (10, 300)])
def test_an_update_is_twice_as_large_as_one_of_adam(shape: tuple[int, int]) -> None:
    change = moved(nn.Parameter(torch.zeros(shape)), torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert 0.3 < float(change.square().mean().sqrt()) / 1e-2 < 0.5


def test_the_size_of_a_gradient_does_not_count_and_blocks_do_not_see_each_other() -> None:
    gradient = torch.randn(2 * ROWS, 16, generator=torch.Generator().manual_seed(0))
    other = torch.cat([1000 * gradient[:ROWS], torch.zeros(ROWS, 16)])
    first, second = (moved(nn.Parameter(torch.zeros(2 * ROWS, 16)), each) for each in (gradient, other))
    assert torch.allclose(first[:ROWS], second[:ROWS], atol=1e-5)
    assert (second[ROWS:] == 0).all()


def test_momentum_turns_a_step_towards_those_before() -> None:
    parameter = nn.Parameter(torch.zeros(4, 4))
    optimizer = Muon([{"params": [parameter], "orthogonal": True}], lr=1.0, weight_decay=0.0)
    for sign in (1.0, 1.0, -1.0):
        before = parameter.detach().clone()
        parameter.grad = sign * torch.eye(4)
        optimizer.step()
    momentum = 0.95 * (0.95 * 0.05 + 0.05) - 0.05
    direction = 0.95 * momentum - 0.05
    assert torch.sign(before - parameter.detach()).diagonal().tolist() == [math.copysign(1.0, direction)] * 4


def test_what_is_not_orthogonal_is_adamw_to_the_bit() -> None:
    start, gradient = torch.randn(6, 5), torch.randn(6, 5)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    optimizers = Muon([{"params": [ours]}], **settings), torch.optim.AdamW([theirs], **settings)
    for _ in range(3):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_a_weight_without_a_gradient_stays_and_a_decaying_one_shrinks() -> None:
    still, shrinking = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    groups = [{"params": [still, shrinking], "orthogonal": True}]
    optimizer = Muon(groups, lr=0.1, weight_decay=0.5)
    shrinking.grad = torch.zeros(4, 4)
    optimizer.step()
    assert (still == 1).all()
    assert torch.allclose(shrinking, torch.tensor(0.95))


def test_it_goes_on_from_what_was_saved() -> None:
    gradients = [torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]

    def run(parameter: nn.Parameter, optimizer: Muon, some: list[torch.Tensor]) -> None:
        for gradient in some:
            parameter.grad = gradient.clone()
            optimizer.step()

    def made(parameter: nn.Parameter) -> Muon:
        return Muon([{"params": [parameter], "orthogonal": True}], lr=0.1)

    whole = nn.Parameter(torch.zeros(4, 6))
    run(whole, made(whole), gradients)
    parted = nn.Parameter(torch.zeros(4, 6))
    first = made(parted)
    run(parted, first, gradients[:2])
    second = made(parted)
    second.load_state_dict(first.state_dict())
    run(parted, second, gradients[2:])
    assert torch.equal(whole, parted)


@pytest.mark.parametrize("family", ["bert", "albert", "vit", "mpnet"])
def test_a_training_moves_the_layers_matrices_by_muon(
    family: str, teacher_of: Make, rows_for: Make, tmp_path: Path
) -> None:
    teacher = teacher_of(family)
    rows = rows_for(teacher)
    student = convert(teacher, "2quad-freediv")
    trainer = DistillationTrainer(student, teacher, DistillationArguments(str(tmp_path), use_cpu=True), rows, rows)
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, Muon)
    names = {parameter: name for name, parameter in student.named_parameters()}
    kinds = {names[parameter]: group["orthogonal"] for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert kinds.keys() == trained
    layers = [blocks.site.layer for blocks in trainer.layers]
    for name, orthogonal in kinds.items():
        inside = any(name.startswith(f"{layer}.") for layer in layers)
        assert orthogonal == (inside and student.get_parameter(name).ndim == 2), name
    assert sum(kinds.values()) == 6 * len(set(layers))


def test_a_training_that_names_an_optimizer_has_that(teacher_of: Make, rows_for: Make, tmp_path: Path) -> None:
    teacher = teacher_of()
    rows = rows_for(teacher)
    args = DistillationArguments(str(tmp_path), use_cpu=True, optim="adafactor")
    trainer = DistillationTrainer(convert(teacher, "2quad-freediv"), teacher, args, rows, rows)
    assert type(trainer.create_optimizer()).__name__ == "Adafactor"
