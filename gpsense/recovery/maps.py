"""Linear maps of a matrix X to n values, ``A(X)_i = Re <A_i, X>``, stored without forming A_i where structure allows.

X is ``U U^H`` (semidefinite: real or complex Hermitian) or ``U V^T`` (rectangular). A tuple of factors, ``(U,)`` or
``(U, V)``, stands for X. ``A(X)`` is homogeneous of degree two in the factors, so that it is half the product of its
Jacobian with the factors.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import laplacian

Factors = tuple[np.ndarray, ...]
FEW = 20_000  # numbers of a Jacobian up to which NumPy's products are faster than those of a sparse matrix
SMALL = 10_000  # entries of X up to which several adjoints are formed as dense arrays
LETTERS = {"I": (0, 0), "X": (1, 0), "Y": (1, 1), "Z": (0, 1)}  # whether a letter flips the bit, and the sign


class Map(ABC):
    """Measurements of a matrix with ``sides`` (rows, columns)."""

    semidefinite = True
    complex = False
    sparse = False
    shifts = 0  # directions in which each column of U can move unseen by measurements of this kind

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of measurements."""

    @property
    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """Rows and columns of X."""

    @abstractmethod
    def jacobian(self, factors: Factors) -> Any:
        """Jacobian (n, numbers) of the values with respect to the factors' real numbers: array, Runs or Projected."""

    @abstractmethod
    def adjoint(self, values: np.ndarray) -> Any:
        """``sum_i z_i A_i`` for values z (n,), shape ``sides``: an array or a sparse matrix."""

    @abstractmethod
    def squares(self) -> np.ndarray:
        """``||A_i||_F^2``, shape (n,)."""

    @abstractmethod
    def take(self, index: np.ndarray) -> "Map":
        """The map of the measurements at ``index``, in this order."""

    @abstractmethod
    def rows(self) -> np.ndarray:
        """One row of numbers for each measurement; equal A_i have equal rows."""

    @abstractmethod
    def seen(self) -> sp.csr_matrix:
        """Which entries of X are measured (of distances: which pairs), a sparse boolean matrix of shape ``sides``."""

    def visible(self, values: np.ndarray) -> np.ndarray:
        """The n values with all that free offsets of the map could explain projected out; unchanged for other maps."""
        return values

    def adjoints(self, values: np.ndarray) -> list[Any]:
        """The adjoint of each of m sets of ``values`` (m, n)."""
        return [self.adjoint(each) for each in values]

    def predict(self, factors: Factors) -> np.ndarray:
        """``A(X)``, shape (n,)."""
        return 0.5 * (self.jacobian(factors) @ numbers(factors))

    def unknowns(self, rank: int) -> int:
        """Degrees of freedom of X of this rank, less those that no measurements of this kind can determine."""
        rows, columns = self.sides
        if not self.semidefinite:
            return rank * (rows + columns - rank)
        if self.complex:
            return 2 * rows * rank - rank**2
        return (rows - self.shifts) * rank - rank * (rank - 1) // 2

    def largest_rank(self) -> int:
        """The largest rank that X can have."""
        return min(self.sides) - self.shifts


def numbers(factors: Factors) -> np.ndarray:
    """All real numbers of the factors in one vector; a complex number gives its real and its imaginary part."""
    return np.concatenate([np.ascontiguousarray(one).reshape(-1).view(np.float64) for one in factors])


def unflattened(vector: np.ndarray, like: Factors) -> Factors:
    """The inverse of :func:`numbers`."""
    parts, start = [], 0
    for one in like:
        size = one.size * (2 if np.iscomplexobj(one) else 1)
        parts.append(vector[start : start + size].view(one.dtype).reshape(one.shape))
        start += size
    return tuple(parts)


class Places:
    """Where a Jacobian (n, ``side``) is not zero, if each measurement depends on two rows of the factors.

    ``rows`` (n, 2) are the indices of these rows, each of ``width`` numbers; ``columns`` (n, 2 width) the columns of
    the Jacobian for these numbers.
    """

    def __init__(self, rows: np.ndarray, width: int, side: int) -> None:
        self.rows, self.width, self.side = rows, width, side
        self.columns = (rows[:, :, None] * width + np.arange(width)).reshape(rows.shape[0], 2 * width)

    @cached_property
    def across(self) -> np.ndarray:
        """Flat indices in ``J^T J`` of the blocks that couple a measurement's two rows, shape (2 n width^2,)."""
        first, second = self.columns[:, : self.width, None], self.columns[:, None, self.width :]
        return np.concatenate([(first * self.side + second).ravel(), (second * self.side + first).ravel()])

    @cached_property
    def sums(self) -> np.ndarray:
        """Flat indices into the result of :meth:`Runs.sums`, shape (4 n width,).

        The ``2 width`` nonzero numbers in a measurement's row of the Jacobian are added there once for each of its two
        rows of the factors.
        """
        return (self.rows[:, :, None] * self.side + self.columns[:, None, :]).ravel()

    @cached_property
    def gather(self) -> sp.csr_matrix:
        """The matrix that sums over the measurements of each row of the factors, shape (rows, 2 n)."""
        ones = np.ones(self.rows.size)
        return sp.csr_matrix((ones, (self.rows.ravel(), np.arange(ones.size))), (self.side // self.width, ones.size))


class Runs:
    """A sparse Jacobian with m numbers in every row: ``data`` (n, m), in the columns given by ``at``."""

    def __init__(self, data: np.ndarray, at: Places) -> None:
        self.data, self.at, self.shape = data, at, (data.shape[0], at.side)

    @property
    def places(self) -> np.ndarray:
        """The columns of the numbers, shape (n, m)."""
        return self.at.columns

    @cached_property
    def _sparse(self) -> sp.csr_matrix:
        starts = np.arange(self.shape[0] + 1) * self.data.shape[1]
        return sp.csr_matrix((self.data.ravel(), self.places.ravel(), starts), self.shape)

    def __matmul__(self, change: np.ndarray) -> np.ndarray:
        if self.data.size > FEW:
            return self._sparse @ change
        return np.einsum("ij,ij->i", self.data, change[self.places])

    def back(self, values: np.ndarray) -> np.ndarray:
        """The transpose times values (n,)."""
        if self.data.size > FEW:
            return self._transposed @ values
        return np.bincount(self.places.ravel(), (self.data * values[:, None]).ravel(), self.shape[1])

    @cached_property
    def _transposed(self) -> Any:
        return self._sparse.T

    def sums(self) -> np.ndarray:
        """For each row of the factors, the sum of the Jacobian's rows over its measurements, shape (rows, numbers)."""
        rows, side = self.shape[1] // self.at.width, self.shape[1]
        twice = np.repeat(self.data[:, None, :], 2, axis=1)
        return np.bincount(self.at.sums, twice.ravel(), rows * side).reshape(rows, side)

    def gram(self) -> np.ndarray:
        """``J^T J`` as an array."""
        side, width = self.shape[1], self.at.width
        cross = (self.data[:, :width, None] * self.data[:, None, width:]).ravel()
        normal = np.bincount(self.at.across, np.concatenate([cross, cross]), side * side)
        own, rows = self._squares(), np.arange(side // width)
        normal.reshape(rows.size, width, rows.size, width)[rows, :, rows] += own
        return normal.reshape(side, side)

    def blocks(self) -> np.ndarray:
        """The blocks (rows, width, width) along the diagonal of ``J^T J``, one for each row of the factors."""
        own, width = self._squares(), self.at.width
        same = np.flatnonzero(self.at.rows[:, 0] == self.at.rows[:, 1])
        cross = self.data[same, :width, None] * self.data[same, None, width:]
        np.add.at(own, self.at.rows[same, 0], cross + cross.transpose(0, 2, 1))
        return own

    def _squares(self) -> np.ndarray:
        """Outer products ``j j^T`` of a measurement's numbers j for a row, summed per row, (rows, width, width)."""
        runs = self.data.reshape(-1, self.at.width)
        squares = (runs[:, :, None] * runs[:, None, :]).reshape(runs.shape[0], -1)
        return np.asarray(self.at.gather @ squares).reshape(-1, self.at.width, self.at.width)

    def times(self, rows: np.ndarray) -> "Runs":
        """The Jacobian with its numbers multiplied by ``rows``: one multiplier per row (n, 1), or per number (n, m)."""
        return Runs(self.data * rows, self.at)

    def toarray(self) -> np.ndarray:
        """The Jacobian as a dense array."""
        rows, width = self.shape
        flat = np.arange(rows)[:, None] * width + self.places
        return np.bincount(flat.ravel(), self.data.ravel(), rows * width).reshape(rows, width)


@dataclass(frozen=True)
class Dense(Map):
    """Any matrices A_i, (n, d, d) Hermitian for semidefinite X, or (n, rows, columns) for a rectangular one."""

    matrices: np.ndarray
    semidefinite: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def n(self) -> int:
        return self.matrices.shape[0]

    @property
    def complex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return np.iscomplexobj(self.matrices)

    @property
    def sides(self) -> tuple[int, int]:
        return self.matrices.shape[1], self.matrices.shape[2]

    @property
    def _flat(self) -> np.ndarray:
        n, rows, columns = self.matrices.shape
        return self.matrices.reshape(n, rows * columns)  # also for n = 0

    def jacobian(self, factors: Factors) -> np.ndarray:
        n, rows, columns = self.matrices.shape
        last = 2.0 * factors[0] if self.semidefinite else factors[1]
        right = (self.matrices.reshape(n * rows, columns) @ last).reshape(n, rows * last.shape[1])
        if self.semidefinite:
            return right.view(np.float64)
        left = np.matmul(self.matrices.transpose(0, 2, 1), factors[0]).reshape(n, columns * factors[0].shape[1])
        return np.concatenate([right, left], axis=1)

    def predict(self, factors: Factors) -> np.ndarray:
        matrix = factors[0] @ (factors[0].conj().T if self.semidefinite else factors[1].T)
        return np.real(self._flat @ matrix.conj().reshape(-1))

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        return (values @ self._flat).reshape(self.sides)

    def adjoints(self, values: np.ndarray) -> list[np.ndarray]:
        return list((values @ self.matrices.reshape(self.n, -1)).reshape(-1, *self.sides))

    def squares(self) -> np.ndarray:
        flat = self._flat
        return np.real(np.einsum("ij,ij->i", flat, flat.conj()))

    def take(self, index: np.ndarray) -> "Dense":
        return replace(self, matrices=self.matrices[index])

    def rows(self) -> np.ndarray:
        return self._flat

    def seen(self) -> sp.csr_matrix:
        return sp.csr_matrix(np.any(self.matrices != 0, axis=0))


@dataclass(frozen=True)
class RankOne(Map):
    """``A_i = x_i x_i^H`` from vectors (n, d), real or complex: ``A(U U^H)_i = ||U^H x_i||^2``."""

    vectors: np.ndarray

    @property
    def n(self) -> int:
        return self.vectors.shape[0]

    @property
    def complex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return np.iscomplexobj(self.vectors)

    @property
    def sides(self) -> tuple[int, int]:
        return (self.vectors.shape[1],) * 2

    def jacobian(self, factors: Factors) -> np.ndarray:
        inner = 2.0 * (self.vectors.conj() @ factors[0])
        return (self.vectors[:, :, None] * inner[:, None, :]).reshape(self.n, factors[0].size).view(np.float64)

    def predict(self, factors: Factors) -> np.ndarray:
        return np.sum(np.abs(self.vectors.conj() @ factors[0]) ** 2, axis=1)

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        return (self.vectors * values[:, None]).T @ self.vectors.conj()

    def squares(self) -> np.ndarray:
        return np.sum(np.abs(self.vectors) ** 2, axis=1) ** 2

    def take(self, index: np.ndarray) -> "RankOne":
        return RankOne(self.vectors[index])

    def rows(self) -> np.ndarray:
        """The vectors, each times the phase (or sign) that makes its first nonzero number real and positive."""
        first = np.take_along_axis(self.vectors, np.argmax(self.vectors != 0, axis=1)[:, None], axis=1)
        size = np.abs(first)
        turn = np.where(size > 0, first.conj() / np.where(size > 0, size, 1.0), 1.0)
        turned = self.vectors * turn
        return turned if not self.complex else np.round(turned, 12)

    def seen(self) -> sp.csr_matrix:
        filled = sp.csr_matrix(self.vectors != 0).astype(np.int32)
        return (filled.T @ filled).astype(bool)


@dataclass(frozen=True)
class _Indexed(Map):
    """Measurements given by two index arrays (n,)."""

    first: np.ndarray
    second: np.ndarray

    sparse = True

    @property
    def n(self) -> int:
        return self.first.size

    def take(self, index: np.ndarray) -> Any:
        return replace(self, first=self.first[index], second=self.second[index])

    def rows(self) -> np.ndarray:
        pairs = np.stack([self.first, self.second], axis=1)
        return np.sort(pairs, axis=1) if self.semidefinite else pairs

    def _matrix(self, values: np.ndarray) -> sp.csr_matrix:
        order, columns, starts = self._by_rows
        return sp.csr_matrix((values[order], columns, starts), self.sides)

    @cached_property
    def _by_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The measurements ordered by row and column, their columns, and where each row starts."""
        order = np.lexsort((self.second, self.first))
        counts = np.bincount(self.first, minlength=self.sides[0])
        return order, self.second[order].astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    def adjoint(self, values: np.ndarray) -> sp.csr_matrix:
        spread = self._spread(self._matrix(values))
        return spread if isinstance(spread, sp.csr_matrix) else sp.csr_matrix(spread)

    def adjoints(self, values: np.ndarray) -> list[Any]:
        rows, columns = self.sides
        if rows * columns > SMALL:
            return super().adjoints(values)
        places = self.first * columns + self.second
        return [self._spread(np.bincount(places, each, rows * columns).reshape(rows, columns)) for each in values]

    @abstractmethod
    def _spread(self, sums: Any) -> Any:
        """The adjoint, from ``sums``: an array or sparse matrix with the values added up at their two indices."""

    def _jacobian(self, first: np.ndarray, second: np.ndarray, width: int) -> Runs:
        """The Jacobian, ``first`` (n, k) in the columns of the first rows, ``second`` in those of the second."""
        if width not in self._known:
            rows, below = self.sides[0], 0 if self.semidefinite else self.sides[0]
            total = rows if self.semidefinite else sum(self.sides)
            self._known[width] = Places(np.stack([self.first, self.second + below], axis=1), width, total * width)
        return Runs(np.concatenate([first, second], axis=1), self._known[width])

    @cached_property
    def _known(self) -> dict[int, Places]:
        """The Places already computed, by the number of columns of the factors."""
        return {}


@dataclass(frozen=True)
class Entries(_Indexed):
    """``X[rows_i, cols_i]`` of a symmetric X of side ``dim``."""

    dim: int

    @property
    def sides(self) -> tuple[int, int]:
        return self.dim, self.dim

    def jacobian(self, factors: Factors) -> Runs:
        (factor,) = factors
        return self._jacobian(factor[self.second], factor[self.first], factor.shape[1])

    def predict(self, factors: Factors) -> np.ndarray:
        return np.einsum("ij,ij->i", factors[0][self.first], factors[0][self.second])

    def _spread(self, sums: Any) -> Any:
        return 0.5 * (sums + sums.T)

    def squares(self) -> np.ndarray:
        return np.where(self.first == self.second, 1.0, 0.5)

    def seen(self) -> sp.csr_matrix:
        pattern = self._matrix(np.ones(self.n))
        return (pattern + pattern.T).astype(bool)


@dataclass(frozen=True)
class Distances(_Indexed):
    """``||u_i - u_j||^2`` of the rows of U: ``A = (e_i - e_j)(e_i - e_j)^T``; a shift of all rows changes no value."""

    dim: int

    shifts = 1

    @property
    def sides(self) -> tuple[int, int]:
        return self.dim, self.dim

    def jacobian(self, factors: Factors) -> Runs:
        (factor,) = factors
        gap = 2.0 * (factor[self.first] - factor[self.second])
        return self._jacobian(gap, -gap, factor.shape[1])

    def predict(self, factors: Factors) -> np.ndarray:
        gap = factors[0][self.first] - factors[0][self.second]
        return np.einsum("ij,ij->i", gap, gap)

    def _spread(self, sums: Any) -> Any:
        return laplacian(sums + sums.T)

    def squares(self) -> np.ndarray:
        return np.full(self.n, 4.0)

    def seen(self) -> sp.csr_matrix:
        pattern = self._matrix(np.ones(self.n))
        return (pattern + pattern.T).astype(bool)


@dataclass(frozen=True)
class Table(_Indexed):
    """``X[rows_i, cols_i]`` of a rectangular X with ``shape`` (rows, columns)."""

    shape: tuple[int, int]

    semidefinite = False

    @property
    def sides(self) -> tuple[int, int]:
        return self.shape

    def jacobian(self, factors: Factors) -> Runs:
        left, right = factors
        return self._jacobian(right[self.second], left[self.first], left.shape[1])

    def half(self, side: int, data: np.ndarray) -> sp.csr_matrix:
        """The Jacobian with respect to one factor: ``data`` (n, k) at each measured row (side 0) or column (1) of X."""
        index, width = (self.first, self.second)[side].astype(np.int32), data.shape[1]
        places = index[:, None] * np.int32(width) + np.arange(width, dtype=np.int32)
        starts = np.arange(self.n + 1, dtype=np.int32) * width
        return sp.csr_matrix((data.ravel(), places.ravel(), starts), (self.n, self.shape[side] * width))

    def predict(self, factors: Factors) -> np.ndarray:
        return np.einsum("ij,ij->i", factors[0][self.first], factors[1][self.second])

    def _spread(self, sums: Any) -> Any:
        return sums

    def squares(self) -> np.ndarray:
        return np.ones(self.n)

    def seen(self) -> sp.csr_matrix:
        return sp.csr_matrix(self._matrix(np.ones(self.n)).astype(bool))


@dataclass(frozen=True)
class LessOffsets(Map):
    """The entries of a table, with all that row and column offsets can explain projected out: ``P A(X)``.

    ``P = 1 - Z (Z^T Z)^+ Z^T``, where the 0-1 matrix Z (n, rows + columns) gives ``Z (a, b) = a_i + b_j``. Least
    squares of ``P (A(X) - y)`` over X equals least squares of ``A(X) + Z (a, b) - y`` over X, a and b.
    """

    table: Table

    semidefinite = False
    sparse = True

    @property
    def n(self) -> int:
        return self.table.n

    @property
    def sides(self) -> tuple[int, int]:
        return self.table.shape

    @cached_property
    def _root(self) -> np.ndarray:
        """S (independent, rows + columns) with ``S^T S = (Z^T Z)^+``."""
        counts = np.zeros(self.sides)
        np.add.at(counts, (self.table.first, self.table.second), 1.0)
        normal = np.block([[np.diag(counts.sum(axis=1)), counts], [counts.T, np.diag(counts.sum(axis=0))]])
        values, vectors = np.linalg.eigh(normal)
        kept = values > 1e-10 * max(float(values[-1]), 1e-300)
        return vectors[:, kept].T / np.sqrt(values[kept])[:, None]

    @cached_property
    def _ones(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Z and its transpose."""
        places = np.stack([self.table.first, self.sides[0] + self.table.second], axis=1)
        starts = np.arange(0, places.size + 1, 2)
        ones = sp.csr_matrix((np.ones(places.size), places.ravel(), starts), (self.n, sum(self.sides)))
        return ones, ones.T.tocsr()

    def span(self, numbers: np.ndarray) -> np.ndarray:
        """``B c`` for ``numbers`` c, with the orthonormal basis ``B = Z S^T`` of what offsets can add."""
        return self._ones[0] @ (self._root.T @ numbers)

    def along(self, values: np.ndarray) -> np.ndarray:
        """``B^T z`` for n values z: the coordinates of the part that offsets could add."""
        return self._root @ (self._ones[1] @ values)

    def offsets(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least-squares offsets of rows and columns for n values; of least norm if several fit equally well."""
        both = self._root.T @ self.along(values)
        return both[: self.sides[0]], both[self.sides[0] :]

    def visible(self, values: np.ndarray) -> np.ndarray:
        return values - self.span(self.along(values))

    def jacobian(self, factors: Factors) -> "Projected":
        inner = self.table.jacobian(factors)
        return Projected(inner, self, self._root @ inner.sums())

    def predict(self, factors: Factors) -> np.ndarray:
        return self.visible(self.table.predict(factors))

    def adjoint(self, values: np.ndarray) -> sp.csr_matrix:
        return self.table.adjoint(self.visible(values))

    def adjoints(self, values: np.ndarray) -> list[Any]:
        return self.table.adjoints(self.visible(values.T).T)

    def squares(self) -> np.ndarray:
        ones, _ = self._ones
        free = 1.0 - np.asarray(ones.multiply(ones @ (self._root.T @ self._root)).sum(axis=1)).ravel()
        return np.where(free > 1e-10, free, 0.0)  # an entry alone in its row is explained by that row's offset

    def take(self, index: np.ndarray) -> "LessOffsets":
        return LessOffsets(self.table.take(index))

    def rows(self) -> np.ndarray:
        return self.table.rows()

    def seen(self) -> sp.csr_matrix:
        return self.table.seen()

    def unknowns(self, rank: int) -> int:
        """Degrees of freedom of a centred X of this rank, plus those of the offsets."""
        rows, columns = self.sides
        return rank * (rows + columns - 2 - rank) + self._root.shape[0]

    def largest_rank(self) -> int:
        return min(self.sides) - 1


class Projected:
    """The Jacobian ``P J`` of :class:`LessOffsets`, ``P = 1 - B B^T`` with the orthonormal basis B of its ``span``.

    Stored as J and ``less = B^T J``; has the products that normal equations need.
    """

    def __init__(self, inner: Runs, map_: LessOffsets, less: np.ndarray) -> None:
        self.inner, self.map, self.less = inner, map_, less
        self.shape = inner.shape

    def __matmul__(self, change: np.ndarray) -> np.ndarray:
        return self.inner @ change - self.map.span(self.less @ change)

    def back(self, values: np.ndarray) -> np.ndarray:
        """The transpose times values (n,)."""
        return self.inner.back(values) - self.less.T @ self.map.along(values)

    def gram(self) -> np.ndarray:
        """``J^T P J`` as an array."""
        return self.inner.gram() - self.less.T @ self.less

    def toarray(self) -> np.ndarray:
        """The Jacobian as a dense array."""
        return self.inner.toarray() - self.map.span(self.less)


@dataclass(frozen=True)
class Pauli(Map):
    """Expectations ``tr(P X)`` of Pauli words P such as "XIZ", one letter per qubit, applied by permutation and phase.

    With bit masks x (letters X, Y) and z (letters Z, Y): ``(P u)[s] = i^(number of Y) (-1)^(z . (s ^ x)) u[s ^ x]``,
    the first letter acting on the highest bit.
    """

    flips: np.ndarray
    signs: np.ndarray
    qubits: int

    complex = True

    @classmethod
    def of(cls, words: Any) -> "Pauli":
        """The map of words of equal length; ValueError if lengths differ, KeyError for letters but I, X, Y, Z."""
        words = [str(word) for word in words]
        if len({len(word) for word in words}) != 1 or not words[0]:
            raise ValueError("Pauli words of different lengths")
        letters = np.array([[LETTERS[letter] for letter in word] for word in words])
        powers = 2 ** np.arange(len(words[0]) - 1, -1, -1)
        return cls(letters[:, :, 0] @ powers, letters[:, :, 1] @ powers, len(words[0]))

    @property
    def n(self) -> int:
        return self.flips.size

    @property
    def sides(self) -> tuple[int, int]:
        return (2**self.qubits,) * 2

    @cached_property
    def _phase(self) -> np.ndarray:
        """``i^(number of Y)``, shape (n,)."""
        return 1j ** (np.bitwise_count(self.flips & self.signs) % 4)

    def apply(self, factor: np.ndarray) -> np.ndarray:
        """``P_i U``, shape (n, d, k)."""
        source = np.arange(self.sides[0])[None, :] ^ self.flips[:, None]
        parity = np.bitwise_count(source & self.signs[:, None]) % 2
        return (self._phase[:, None] * (1.0 - 2.0 * parity))[:, :, None] * factor[source]

    def jacobian(self, factors: Factors) -> np.ndarray:
        return (2.0 * self.apply(factors[0])).reshape(self.n, factors[0].size).view(np.float64)

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        side = self.sides[0]
        places = np.arange(side)
        table = np.zeros((side, side), complex)
        np.add.at(table, (self.flips, self.signs), values * self._phase)
        walsh = 1.0 - 2.0 * (np.bitwise_count(places[:, None] & places[None, :]) % 2)
        spectrum = table @ walsh  # [x, t]: the entry of the sum at row t ^ x, column t
        found = np.empty((side, side), complex)
        found[places[None, :] ^ places[:, None], places[None, :]] = spectrum
        return found

    def squares(self) -> np.ndarray:
        return np.full(self.n, float(self.sides[0]))

    def take(self, index: np.ndarray) -> "Pauli":
        return Pauli(self.flips[index], self.signs[index], self.qubits)

    def rows(self) -> np.ndarray:
        return np.stack([self.flips, self.signs], axis=1)

    def seen(self) -> sp.csr_matrix:
        places = np.arange(self.sides[0])
        flips = np.unique(self.flips)
        rows = (places[None, :] ^ flips[:, None]).ravel()
        return sp.csr_matrix((np.ones(rows.size, bool), (rows, np.tile(places, flips.size))), self.sides)
