"""Array types shared by the numerics; shapes are checked at run time in the tests only."""

from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float, Int, Key, PyTree
from jaxtyping import Integer as AnyInteger

if TYPE_CHECKING:  # type checkers do not know the type of PyTree
    Parameters = Prunable = MaskTree = Any
else:
    Parameters = PyTree[Float[Array, "..."]]
    Prunable = PyTree[bool]
    MaskTree = PyTree[Bool[Array, "..."]]

Factor = Float[Array, "dim width"]
Symmetric = Float[Array, "dim dim"]
Packed = Float[Array, " packed"]
Hessian = Float[Array, "packed packed"]
PackedRows = Float[Array, "n packed"]
Vectors = Float[Array, "n dim"]
Values = Float[Array, " n"]
Indices = Int[Array, " n"]
Norms = Float[Array, " width"]
Mask = Bool[Array, " width"]
Scalar = Float[Array, ""]
ScalarLike = Float[Array, ""] | float | int
Elementwise = Float[Array, "..."]
Spectrum = Float[Array, " rank"]
Flags = Bool[Array, "..."]
Integer = AnyInteger[Array, ""]
RandomKey = Key[Array, ""]
