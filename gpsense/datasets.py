"""Real data sets. The one place of the numerics that reads files: data that come with an installed package.

Read once, when first asked for, never at import; a system that draws its problems from them holds them as constants.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scanned handwritten digits: pixels (1797, 64) from 0 to 1, float64, and the digits 0 to 9 (1797,), int64.

    Images of 8 x 8, row by row. Source: scikit-learn's ``load_digits``, the test set of E. Alpaydin and C. Kaynak,
    Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels, np.float64) / 16.0, np.asarray(labels, np.int64)
