"""Multi-layer networks pruned by weights: what any data and any network share, and classes of images.

:class:`NetworkSystem` takes a :class:`gpsense.tickets.network.Task`; :class:`Images` is one on scikit-learn's
handwritten digits, or on MNIST or CIFAR-10 files that lie on disk.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gpsense import datasets
from gpsense._types import Integer, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.systems._contract import Cost
from gpsense.systems._weights import Ticket, WeightsSetting, WeightsSpec, WeightSystem
from gpsense.tickets import images
from gpsense.tickets.network import Samples, Task, perceptron

CLASSES = 10
DATA = ("digits", "mnist", "cifar10")
HELD_OUT = 100  # images to test on, at least


class NetworkProblem(NamedTuple):
    """Samples to learn from, and others to test on."""

    train: Samples
    test: Samples


class NetworkSystem(WeightSystem):
    """What systems with a multi-layer network share."""

    metrics: ClassVar[dict[str, tuple[str, str]]] = {
        "rank": ("weights kept", "weights"),
        "kept_share": ("share of the weights that was kept", "1"),
        "loss": ("mean loss over the training samples", "loss"),
        "loss_curve": ("mean loss over the training samples along the run", "loss"),
        "gradient_norm": ("gradient norm on the mask where it was last looked at", "loss / weight"),
    }
    table: ClassVar[tuple[str, ...]] = ("rank", "error_trained", "error_pruned", "error")

    def task(self, spec: Any) -> Task:
        """The network and its judges."""
        raise NotImplementedError

    def numbers(self, spec: Any) -> tuple[int, int, int]:
        """Numbers of one input, of training inputs, and of test inputs."""
        raise NotImplementedError

    def traceable(self, spec: Any, sizes: dict[str, tuple[int, ...]], evaluations: int) -> frozenset[str]:
        return frozenset(sizes) & {"n"}

    def cost(self, spec: Any) -> Cost:
        """A step sees a batch, or all; records and judgements see all samples, tests included."""
        each, train, test = self.numbers(spec)
        weights = sum(leaf.size for leaf in jax.tree.leaves(_shapes(self.task(spec))))
        number = jnp.dtype(spec.dtype).itemsize
        seen = train // each if spec.batch is None else spec.batch
        return Cost(
            flops=6.0 * seen * weights,
            problem_bytes=number * (train + test) * 2,
            sample_bytes=number * (train + test) * 2,
            cell_bytes=number * (10 * weights + 4 * (train + test)),
            kept_bytes=number * 6 * weights,
            once=60.0 * (train + test),
        )

    def start(self, spec: Any, problem: Any, setting: Any, mask: Any, key: RandomKey) -> Any:
        return self.task(spec).draw(key, jnp.dtype(spec.dtype))

    def loss(self, spec: Any, problem: Any, params: Any) -> Scalar:
        return self.task(spec).risk(params, problem.train)

    def sampled_loss(self, spec: Any, problem: Any, params: Any, key: RandomKey, step: Integer) -> Scalar:
        """The loss on a minibatch drawn with replacement from the rows in use, which come first."""
        inputs, targets, used = problem.train
        rows = jax.random.randint(key, (spec.batch,), 0, jnp.sum(used).astype(jnp.int32))
        return self.task(spec).risk(params, Samples(inputs[rows], targets[rows], used[rows]))

    def error(self, spec: Any, problem: Any, params: Any) -> Scalar:
        return self.task(spec).mistakes(params, problem.test)

    def flow(self, spec: Any, problem: Any, params: Any) -> Scalar:
        return self.task(spec).flow(params)

    def measures(self, spec: Any, problem: Any, setting: Any, state: Ticket) -> dict[str, Scalar]:
        return {}


@dataclass(frozen=True)
class ImagesSpec(WeightsSpec):
    """Static, with those of :class:`WeightsSpec`: ``data`` digits, mnist or cifar10, the latter files in ``folder``.

    ``n`` images train, the bound where the instance gives their number, and at most ``test`` others measure the error.
    ``layers``: neurons of the hidden layers.
    """

    data: str = "digits"
    folder: str | None = None
    n: int = 1000
    test: int = 2000
    layers: tuple[int, ...] = (128, 64)


class ImagesInstance(eqx.Module):
    """Traced: ``n`` training images, None for those of the spec."""

    n: ScalarLike | None = None


class ImagesSetting(WeightsSetting):
    """Traced: those of :class:`WeightsSetting`."""

    rate: ScalarLike = 0.005


def sample_images(spec: ImagesSpec, instance: ImagesInstance, key: RandomKey) -> NetworkProblem:
    """Images to train on, drawn by the key: more extend fewer. The digits left over, or a data set's own, test.

    Of a data set with test images of its own, twice n training images are drawn from, the first of the file.
    """
    dtype = jnp.dtype(spec.dtype)
    pool, labels, test, test_labels = (jnp.asarray(each) for each in _held(spec.data, spec.folder, spec.n, spec.test))
    order = jnp.argsort(jax.random.uniform(key, (pool.shape[0],), jnp.float32))
    count = jnp.asarray(spec.n if instance.n is None else instance.n, dtype)
    used = (jnp.arange(spec.n, dtype=dtype) < count).astype(dtype)
    if spec.data == "digits":
        rest = order[spec.n : spec.n + spec.test]
        test, test_labels = pool[rest], labels[rest]
    rows = order[: spec.n]
    train = Samples(pool[rows].astype(dtype), labels[rows], used)
    return NetworkProblem(train, Samples(test.astype(dtype), test_labels, jnp.ones(test_labels.shape, dtype)))


class Images(NetworkSystem):
    """Classes of images, behind the contract of :class:`gpsense.systems.System`."""

    name: ClassVar[str] = "images"
    Spec: ClassVar[type] = ImagesSpec
    Instance: ClassVar[type] = ImagesInstance
    Setting: ClassVar[type] = ImagesSetting
    metrics: ClassVar[dict[str, tuple[str, str]]] = NetworkSystem.metrics | {
        "error": ("test images misclassified", "share"),
        "error_trained": ("test images misclassified before the last pruning", "share"),
        "error_pruned": ("test images misclassified where training of the ticket began", "share"),
        "error_curve": ("test images misclassified along the run", "share"),
    }

    def check_data(self, spec: Any) -> None:
        if spec.data not in DATA:
            raise BadInput("problem.data", f"{self.name} has no {spec.data!r}", f"use one of {', '.join(DATA)}")
        if (spec.folder is None) != (spec.data == "digits"):
            problem = "the digits come with scikit-learn" if spec.folder else f"{spec.data} files have to be told"
            remedy = "leave it out" if spec.folder else "give the folder they lie in"
            raise BadInput("problem.folder", problem, remedy)
        if spec.data == "digits":
            most = len(datasets.digits()[1]) - HELD_OUT
        else:
            most = len(_loaded(spec.data, spec.folder).train_y)
        if not spec.n <= most:
            raise BadInput("problem.n", f"{spec.n} training images", f"use at most {most}")
        if not spec.layers:
            raise BadInput("train.layers", "no hidden layer", "give the neurons of one or more")

    def describe(self, spec: Any) -> str:
        return f"{spec.data}, rule {spec.rule}, layers {'-'.join(map(str, spec.layers))}, n up to {spec.n}"

    def task(self, spec: Any) -> Task:
        return _task(_shape(spec), spec.layers)

    def numbers(self, spec: Any) -> tuple[int, int, int]:
        each = int(np.prod(_shape(spec)))
        return each, each * spec.n, each * spec.test

    def sample(self, spec: Any, instance: Any, key: RandomKey) -> Any:
        return sample_images(spec, instance, key)


@lru_cache(maxsize=8)
def _task(shape: tuple[int, ...], layers: tuple[int, ...]) -> Task:
    return Task(lambda key: perceptron(key, (int(np.prod(shape)), *layers, CLASSES)), shape)


@lru_cache(maxsize=8)
def _shapes(task: Task) -> Any:
    return eqx.filter_eval_shape(task.draw, jax.random.key(0), jnp.float32)


@lru_cache(maxsize=2)
def _loaded(data: str, folder: str | None) -> images.Images:
    """All images of a data set that lies on disk."""
    try:
        return (images.mnist if data == "mnist" else images.cifar10)(folder or "")
    except BadInput as refusal:
        raise BadInput("problem.folder", refusal.problem, refusal.remedy) from None


def _held(data: str, folder: str | None, n: int, test: int) -> tuple[np.ndarray, ...]:
    """What a program holds: images to draw from and labels, images to test on and labels."""
    if data == "digits":
        pixels, labels = datasets.digits()
        return pixels.astype(np.float32), labels.astype(np.int32), pixels[:0], labels[:0]
    found = _loaded(data, folder)
    return found.train_x[: 2 * n], found.train_y[: 2 * n], found.test_x[:test], found.test_y[:test]


def _shape(spec: ImagesSpec) -> tuple[int, ...]:
    """Shape of one input."""
    if spec.data == "digits":
        return datasets.digits()[0].shape[1:]
    return _loaded(spec.data, spec.folder).train_x.shape[1:]
