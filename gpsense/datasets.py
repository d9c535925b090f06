"""Real data sets that come with an installed package; :mod:`gpsense.tickets.images` reads data sets in folders.

A data set is read once, when first asked for, not at import; systems that draw problems from it hold it as a constant.
"""

from functools import lru_cache

import numpy as np

DIABETES_COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


@lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The scanned digits: their pixels (1797, 64), float64 from 0 to 1, and their labels (1797,), int64 from 0 to 9.

    Each image has 8 x 8 pixels, stored row by row. Source: scikit-learn's ``load_digits``, the test set of E. Alpaydin
    and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels, np.float64) / 16.0, np.asarray(labels, np.int64)


@lru_cache(maxsize=1)
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """The table of 442 patients with diabetes: ten columns (442, 10) and a score (442,), both float64.

    Columns are named in :data:`DIABETES_COLUMNS`, centred and of Euclidean norm 1; the score, from 25 to 346, measures
    the progression of the disease after a year. Source: scikit-learn's ``load_diabetes``, the data of Efron, Hastie,
    Johnstone and Tibshirani, Least Angle Regression (Annals of Statistics, 2004).
    """
    from sklearn.datasets import load_diabetes

    columns, scores = load_diabetes(return_X_y=True)
    return np.asarray(columns, np.float64), np.asarray(scores, np.float64)
