"""How a network learns: the paper's settings, and what may be changed of them."""

from typing import Annotated, Literal

from pydantic import Field

from prunelab.utils.checks import Fraction, Number, Seed, Switch, Whole, settings

Precision = Literal["float32", "bfloat16"]


@settings
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
        seed: of order, crops and dropout; below 2³².

    Raises:
        ValueError: a value of another kind, not finite, or out of bounds.
    """

    epochs: Annotated[Whole, Field(ge=0)] = 160
    lr: Annotated[Number, Field(gt=0)] = 0.1
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    lr_drop: Annotated[Number, Field(gt=0)] = 0.1
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    batch_size: Annotated[Whole, Field(ge=1)] = 128
    augment: Switch = True
    precision: Precision = "float32"
    channels_last: Switch = False
    compile: Switch | None = None
    patience: Annotated[Whole, Field(ge=1)] | None = None
    seed: Seed = 0

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= max(int(m * self.epochs), 1) for m in self.milestones)
        return self.lr * self.lr_drop**passed


# Li et al. 2017, §4: a quarter of the training, at a constant rate
RETRAINING = TrainSettings(epochs=40, lr=0.001, milestones=())
# weights that have learned something else already: a tenth of a fresh network's rate
FINE_TUNING = TrainSettings(epochs=10, lr=0.01, batch_size=32)
