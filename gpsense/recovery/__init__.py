"""Recovery of a low-rank matrix from linear measurements, rank and noise unknown, in NumPy float64.

:mod:`~gpsense.recovery.maps` has the measurements, :mod:`~gpsense.recovery.steps` one damped Gauss-Newton step,
:mod:`~gpsense.recovery.path` the path of penalties with its pruning, and :mod:`~gpsense.recovery.evidence` the
choice of the rank, the accuracy, and what the data leave undetermined. :func:`gpsense.recover` puts them together.
"""
