"""Image classification by multi-layer networks with weight pruning: scikit-learn's digits, MNIST or CIFAR-10."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Annotated, ClassVar, final

import jax
import jax.numpy as jnp

from gpsense._types import RandomKey, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, ReadBy, Traced
from gpsense.optimizers import Rate
from gpsense.systems._contract import Cost, Measure
from gpsense.systems._networks import MEASURES, NetworkModel, NetworkProblem
from gpsense.systems._weights import WeightsSetting, WeightSystem
from gpsense.tickets.images import DATA, ImageArrays, ImageSet
from gpsense.tickets.network import Samples, Task, perceptron

HELD_OUT = 100  # test images, at least
FILES = ReadBy("data", known=frozenset({"digits", "mnist_5k"}))


class ImagesData(Traced):
    """Traced numbers that change the data: ``n`` training images (None: the system's)."""

    n: ScalarLike | None = None


@final
class ImagesSetting(WeightsSetting):
    """Traced numbers that do not change the data: those of :class:`WeightsSetting`, with another default rate."""

    rate: Rate = 0.005


@final
@dataclass(frozen=True, kw_only=True)
class Images(WeightSystem[ImagesData, ImagesSetting, NetworkProblem]):
    """Image classification by multi-layer ReLU networks: scikit-learn's handwritten digits, MNIST or CIFAR-10.

    ``data`` is digits, mnist_5k (5,000 images of MNIST, which the extra ``mnist`` installs), mnist or cifar10; the last
    two are read from files in ``folder``. The network is trained on ``n`` images, or on fewer if Data gives an ``n``;
    the error is measured on at most ``test`` others, and the loss on ``validation`` further images is recorded.
    ``layers``: the number of neurons in each hidden layer.

    >>> system = gpsense.Images()
    >>> problem = jax.eval_shape(system.draw, system.Data(), jax.random.key(0))
    >>> problem.train.inputs.shape, problem.test.inputs.shape
    ((1000, 64), (797, 64))
    """

    name: ClassVar[str] = "images"
    Data: ClassVar[type[ImagesData]] = ImagesData
    Setting: ClassVar[type[ImagesSetting]] = ImagesSetting
    revision: ClassVar[int] = 2
    measures: ClassVar[Mapping[str, Measure]] = {
        **MEASURES,
        "error": Measure("test images misclassified", "share"),
        "error_trained": Measure("test images misclassified before the last pruning", "share"),
        "error_pruned": Measure("test images misclassified where training of the ticket began", "share"),
        "error_curve": Measure("test images misclassified along the run", "share", ("step",)),
        "validation_curve": Measure("mean loss over the validation images along the run", "loss", ("step",)),
    }

    data: Annotated[
        str,
        Field(
            "problem",
            "images: digits, mnist_5k (needs the extra mnist), or mnist or cifar10 from files in folder",
            choices=DATA,
            label="images",
        ),
    ] = "digits"
    folder: Annotated[
        str | None,
        Field(
            "problem",
            "folder with the files of mnist or cifar10",
            axis=False,
            read_by=(FILES,),
        ),
    ] = None
    test: Annotated[int, Field("problem", "largest number of test images", at_least=1)] = 2000
    validation: Annotated[
        int, Field("problem", "images held out, whose loss is recorded along the run, for early stopping", at_least=0)
    ] = 0
    layers: Annotated[tuple[int, ...], Field("train", "neurons in each hidden layer", at_least=1, axis=False)] = (
        128,
        64,
    )

    def check(self) -> None:
        super().check()
        if (self.folder is not None) != DATA[self.data].needs_folder:
            if self.folder is None:
                raise BadInput("folder", f"{self.data} is read from files", "give their folder")
            raise BadInput("folder", f"{self.data} needs no files", "leave it out")
        images = self._images
        most = len(images.train_y) - (0 if len(images.test_y) else HELD_OUT) - self.validation
        if most < 1:
            problem = f"{self.validation} of {len(images.train_y)} images, which leaves none to train on"
            raise BadInput("validation", problem, "use fewer")
        if self.n > most:
            raise BadInput("n", f"{self.n} training images", f"use at most {most}")

    def traceable(self, sizes: Mapping[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        return frozenset(sizes) & {"n"}

    def describe(self) -> str:
        return f"{self.data}, rule {self.rule}, layers {'-'.join(map(str, self.layers))}, n up to {self.n}"

    def labels(self) -> Mapping[str, Sequence[str]]:
        return {"layer": self.model.layers}

    def cost(self) -> Cost:
        return self.model.cost(self.test + self.validation)

    def draw(self, data: ImagesData, key: RandomKey) -> NetworkProblem:
        """Draw the training images; the test images are a data set's own, or else drawn from the remaining images.

        With the same key a larger n adds images to those of a smaller n. The validation images are the first of the
        remaining ones. Where a data set has its own test images, only the first ``2 n + validation`` of its training
        images serve for training and validation.
        """
        dtype, images = jnp.dtype(self.dtype), self._images
        own = len(images.test_y) > 0
        first = slice(2 * self.n + self.validation) if own else slice(None)
        pool, labels = jnp.asarray(images.train_x[first]), jnp.asarray(images.train_y[first])
        order = jnp.argsort(jax.random.uniform(key, (pool.shape[0],), jnp.float32))
        count = jnp.asarray(self.n if data.n is None else data.n, dtype)
        used = (jnp.arange(self.n, dtype=dtype) < count).astype(dtype)
        stop, rest = jnp.split(order[self.n : self.n + self.validation + self.test], [self.validation])
        test = (images.test_x[: self.test], images.test_y[: self.test]) if own else (pool[rest], labels[rest])
        test_x, test_y = (jnp.asarray(each) for each in test)
        rows = order[: self.n]
        train = Samples(pool[rows].astype(dtype), labels[rows], used)
        every = lambda x, y: Samples(x.astype(dtype), y, jnp.ones(y.shape, dtype))  # noqa: E731
        validation = every(pool[stop], labels[stop]) if self.validation else None
        return NetworkProblem(train, every(test_x, test_y), validation)

    @property
    def model(self) -> NetworkModel[ImagesSetting]:
        task = _task(self._images.train_x.shape[1:], self.layers, DATA[self.data].classes)
        return NetworkModel(task, self.n, self.batch, self.dtype)

    @property
    def _images(self) -> ImageArrays:
        """All images of the data set."""
        return _loaded(DATA[self.data], self.folder or "")


@lru_cache(maxsize=8)
def _task(shape: tuple[int, ...], layers: tuple[int, ...], classes: int) -> Task:
    return Task(lambda key: perceptron(key, (prod(shape), *layers, classes)), shape)


@lru_cache(maxsize=2)
def _loaded(data: ImageSet, folder: str) -> ImageArrays:
    return data.load(folder)
