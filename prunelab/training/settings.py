"""How a network learns: the paper's settings, and what may be changed of them."""

from dataclasses import dataclass
from typing import ClassVar

from prunelab.utils.checks import check_choice, check_whole

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """How a network learns.

    The defaults are the CIFAR baseline of Li et al. 2017, §4 (He et al. 2016, §4.2): SGD with
    momentum.

    Attributes:
        epochs: passes over the training images.
        lr: the learning rate at the beginning.
        milestones: fractions of the epochs at which `lr` drops.
        lr_drop: the factor by which it does.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: images in a step, of all processes together.
        augment: random crops and mirror images.
        precision: `float32`, or `bfloat16` by autocast.
        channels_last: the memory format of images and weights.
        compile: by torch.compile; None: for 20 epochs or more on a GPU, in one process.
        patience: stop after so many epochs without a better validation accuracy; None: never.
        seed: of order, crops and dropout.
    """

    epochs: int = 160
    lr: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)
    lr_drop: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 128
    augment: bool = True
    precision: str = "float32"
    channels_last: bool = False
    compile: bool | None = None
    patience: int | None = None
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, least=0)
        check_whole("batch_size", self.batch_size)
        if self.patience is not None:
            check_whole("patience", self.patience, why="epochs, or None")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, not {self.lr!r}")
        check_choice("precision", self.precision, PRECISIONS)
        if any(not 0 < m < 1 for m in self.milestones):
            raise ValueError(
                f"milestones are fractions of the epochs, between 0 and 1, not {self.milestones!r}"
            )

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= max(int(m * self.epochs), 1) for m in self.milestones)
        return self.lr * self.lr_drop**passed


# Li et al. 2017, §4: a quarter of the training, at a constant rate
RETRAINING = TrainSettings(epochs=40, lr=0.001, milestones=())
# weights that have learned something else already: a tenth of a fresh network's rate
FINE_TUNING = TrainSettings(epochs=10, lr=0.01, batch_size=32)
