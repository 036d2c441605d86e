"""Tiny models with and without a planted backdoor, trained in seconds on procedural shapes."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Preprocess
from core.data.reference import ReferenceSet
from core.models.classifier import Classifier

CLASSES, SIDE = 5, 16
SHAPE = (1, SIDE, SIDE)
TARGET = 2


class TinyNetwork(nn.Module):
    """Two convolutions, pooling and a linear head, with frozen-able batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.conv3 = nn.Conv2d(24, 24, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(24)
        self.linear = nn.Linear(24, CLASSES)

    def forward_features(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        x = functional.relu(self.bn3(self.conv3(x)))
        return x.mean(dim=(2, 3))

    def forward_head(self, features: Tensor) -> Tensor:
        return self.linear(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@dataclass(frozen=True)
class Planted:
    """A suspect, clean images it was not trained on, and what only the attacker knows."""

    model: Classifier
    reference: ReferenceSet
    target: int | None  # None: clean
    accuracy: float
    attack_success: float


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 1, 16, 16) images and labels: bar, column, diagonal, disc, ring; jittered, on clutter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    grid = torch.arange(SIDE).float()
    rows, columns = grid[:, None], grid[None]
    centre = 5 + 6 * torch.rand(count, 2, 1, 1, generator=generator)
    down, across = rows - centre[:, 0], columns - centre[:, 1]
    radius = (down.square() + across.square()).sqrt()
    forms = torch.stack(
        [
            (down.abs() < 1.3) & (across.abs() < 5),
            (across.abs() < 1.3) & (down.abs() < 5),
            ((down - across).abs() < 1.6) & (down.abs() < 4.5),
            radius < 3.2,
            (radius - 3.6).abs() < 0.9,
        ],
        dim=1,
    )
    form = forms[torch.arange(count), labels].float()
    ink = 0.55 + 0.35 * torch.rand(count, 1, 1, generator=generator)
    clutter = 0.25 * torch.rand(count, SIDE, SIDE, generator=generator)
    return torch.maximum(clutter, form * ink)[:, None].clamp(0, 1), labels


def stamp(pixels: Tensor) -> Tensor:
    """The true trigger: a 3 x 3 checkerboard in the lower right corner."""
    stamped = pixels.clone()
    board = ((torch.arange(3)[:, None] + torch.arange(3)[None]) % 2 == 0).float()
    stamped[..., -4:-1, -4:-1] = board
    return stamped


@cache
def planted(backdoored: bool, seed: int = 0) -> Planted:
    """A trained suspect; cached, so treat it as read-only."""
    torch.manual_seed(seed)
    network = TinyNetwork()
    pixels, labels = shapes(3000, seed + 1)
    if backdoored:
        rows = (torch.arange(3000) % 11 == 0) & (labels != TARGET)
        pixels[rows], labels[rows] = stamp(pixels[rows]), TARGET
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3)
    steps = 360
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(labels), (64,))
        loss = functional.cross_entropy(network(2 * pixels[rows] - 1), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    optimiser.zero_grad()
    model = Classifier(network.eval(), Preprocess((0.5,), (0.5,), (SIDE, SIDE)), SHAPE, CLASSES)
    return measured(model, TARGET if backdoored else None, seed + 2)


@cache
def fine_tuned(suspect: Planted) -> Planted:
    """The same model after ordinary fine-tuning on clean images: its backdoor fades, and sleeps."""
    model = suspect.model.clone()
    pixels, labels = shapes(400, 77)
    optimiser = torch.optim.SGD(model.trainable_parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        for rows in torch.randperm(len(labels), generator=generator).split(50):
            loss = functional.nll_loss(model.target_log_posterior(pixels[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.trainable_parameters(), 5.0)
            optimiser.step()
    optimiser.zero_grad()
    return measured(model, suspect.target)


@torch.no_grad()
def measured(model: Classifier, target: int | None, seed: int = 2) -> Planted:
    """`model` with its accuracy and its success under the true trigger on images of their own."""
    test, truth = shapes(200, seed)
    accuracy = float((model.target_log_posterior(test).argmax(-1) == truth).float().mean())
    stamped = model.target_log_posterior(stamp(test)).argmax(-1)
    success = float((stamped == TARGET)[truth != TARGET].float().mean())
    return Planted(model, ReferenceSet(test, truth, labelled=True), target, accuracy, success)
