"""The bytes of a chunk file: a checksum, facts that identify the chunk, and its arrays."""

import hashlib
import json
import math
import operator
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = b"gpsense chunk 1\n"
DIGEST = 32  # bytes of the checksum
KINDS = ("f", "i", "u", "b", "c")  # dtype kinds of NumPy's own numbers


def encode(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a chunk file with these named ``arrays`` and ``facts`` about them, which JSON must be able to hold.

    Layout: a line that names the format, the BLAKE2b checksum of all that follows, the length of a JSON header, the
    header (facts; name, type and shape of every array), and the arrays' numbers in the same order, compressed by zlib.
    Numbers of types that NumPy does not have, such as bfloat16, become float32. ValueError for other arrays.
    """
    flat = {name: _plain(name, np.ascontiguousarray(values)) for name, values in arrays.items()}
    little = {name: values.astype(values.dtype.newbyteorder("<"), copy=False) for name, values in flat.items()}
    listed = [[name, values.dtype.str, list(values.shape)] for name, values in little.items()]
    header = json.dumps({"facts": dict(facts), "arrays": listed}, sort_keys=True).encode()
    numbers = zlib.compress(b"".join(values.tobytes() for values in little.values()), 1)
    body = len(header).to_bytes(8, "little") + header + numbers
    return MAGIC + hashlib.blake2b(body, digest_size=DIGEST).digest() + body


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and arrays that :func:`encode` was given; ValueError says what is wrong with the bytes."""
    if not data.startswith(MAGIC):
        raise ValueError("it is not a chunk of this format")
    body = data[len(MAGIC) + DIGEST :]
    if hashlib.blake2b(body, digest_size=DIGEST).digest() != data[len(MAGIC) : len(MAGIC) + DIGEST]:
        raise ValueError("its checksum does not match its bytes")
    try:
        return _parts(body)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError, zlib.error):
        raise ValueError("its header cannot be read") from None


def _parts(body: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and arrays in the bytes after the checksum; no more is decompressed than the header's sizes allow."""
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    listed = [(name, np.dtype(kind), tuple(map(operator.index, shape))) for name, kind, shape in header["arrays"]]
    for name, dtype, shape in listed:
        if dtype.kind not in KINDS or min(shape, default=0) < 0 or not name.isprintable():
            raise ValueError(f"{name!r} is of type {dtype} and shape {shape}")
    sizes = [dtype.itemsize * math.prod(shape) for _, dtype, shape in listed]
    numbers, arrays, place = zlib.decompressobj().decompress(body[8 + length :], sum(sizes) + 1), {}, 0
    if len(numbers) != sum(sizes):
        raise ValueError("its numbers do not fit the shapes in its header")
    for (name, dtype, shape), size in zip(listed, sizes, strict=True):
        arrays[name] = np.frombuffer(numbers[place : place + size], dtype).reshape(shape)
        place += size
    return header["facts"], arrays


def _plain(name: str, values: np.ndarray) -> np.ndarray:
    """The values in a dtype of NumPy's own; ValueError where they are not numbers."""
    if values.dtype.kind in KINDS:
        return values
    if values.dtype.kind != "V" or values.dtype.fields:  # V: also the types that other packages add
        raise ValueError(f"{name} is of type {values.dtype}, not numbers")
    return values.astype(np.float32)
