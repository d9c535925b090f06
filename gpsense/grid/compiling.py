"""Compiles traced programs in the background, with an effort that suits their run time, equal ones only once."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import jax

# Programs compiled with less effort are slower: "less" by about a tenth, "least" two to five times. Each operation is
# compiled by itself rather than by templates for fused ones, in one piece, with less optimisation of its machine code.
WIDE = {"xla_cpu_prefer_vector_width": 512}  # XLA's default is 256 bits; CPUs without wider registers are unaffected
SIMPLE = WIDE | {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
EFFORTS: dict[str, dict[str, Any]] = {
    "full": WIDE,
    "less": SIMPLE | {"xla_backend_optimization_level": 1},
    "least": SIMPLE | {"xla_backend_optimization_level": 0},
}
WORKERS = 4
KEPT, KEPT_TEXT = 128, 2**20  # compiled programs that a process keeps for reuse, and the longest text of one
# LAPACK's eigendecompositions, in the text of a traced program: the sizes of the matrices and the type of their numbers
EIGH = re.compile(r"@lapack_\w(?:syevd|heevd)_ffi\(.*: \(tensor<((?:\d+x)+)(complex<f\d+>|f\d+)>\) -> ")
NUMBER = {"f32": 4, "f64": 8, "complex<f32>": 8, "complex<f64>": 16}  # bytes


class Compiled(NamedTuple):
    """A compiled program, its bytes on a device (LAPACK's workspace included) and the seconds it took to compile."""

    call: Any
    bytes: int
    seconds: float


_pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="compiling")
_known: OrderedDict[tuple[Any, ...], Future[Compiled]] = OrderedDict()
_lock = Lock()


@cache
def options(effort: str) -> dict[str, Any]:
    """The compiler options of an entry of :data:`EFFORTS` that this version of XLA knows; on accelerators, none."""
    known = EFFORTS[effort] if jax.default_backend() == "cpu" else {}
    return {name: value for name, value in known.items() if _known_option(name, value)}


@cache
def _known_option(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def compile_later(lowered: Any, effort: str, devices: Sequence[Any]) -> "Future[Compiled]":
    """Begin to compile a traced program for these devices; an equal program that was compiled before is reused.

    Programs are compared by their text. Two kinds are compiled at every call: programs that call back into Python,
    since these may differ and have the same text, and large ones, since keeping them would occupy much memory.
    """
    chosen = options(effort)
    text = lowered.as_text()
    if "callback" in text or len(text) > KEPT_TEXT:
        return _pool.submit(_compile, lowered, chosen, scratch_of(text))
    scratch, text = scratch_of(text), hashlib.sha256(text.encode()).digest()
    places = tuple(device.id for device in devices)
    leaves = jax.tree.leaves((lowered.in_avals, lowered.out_info))
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    key = (text, shapes, lowered.in_tree, lowered.out_tree, tuple(chosen.items()), places)
    with _lock:
        found = _known.get(key)
        if found is None or (found.done() and found.exception()):
            found = _known[key] = _pool.submit(_compile, lowered, chosen, scratch)
        _known.move_to_end(key)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return found


def forget() -> None:
    """Forget the compiled programs, so that equal ones are compiled again."""
    with _lock:
        _known.clear()


def scratch_of(text: str) -> int:
    """Bytes of LAPACK's workspace, which XLA does not count, for the largest eigendecomposition of a traced program.

    The divide-and-conquer routines that jaxlib calls need two matrices; those of a batch are decomposed one by one.
    """
    sizes = [(int(dims.split("x")[-2]), NUMBER[kind]) for dims, kind in EIGH.findall(text)]
    return max((2 * size**2 * number for size, number in sizes), default=0)


def _compile(lowered: Any, chosen: dict[str, Any], scratch: int) -> Compiled:
    begun = time.perf_counter()
    call = lowered.compile(compiler_options=chosen or None)
    used = call.memory_analysis()
    held = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
    return Compiled(call, held + used.temp_size_in_bytes + scratch, time.perf_counter() - begun)
