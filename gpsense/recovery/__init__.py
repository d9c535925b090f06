"""A matrix of low rank from linear measurements of it, rank and noise unknown, in NumPy float64.

:mod:`~gpsense.recovery.maps` has the measurements, :mod:`~gpsense.recovery.steps` one damped Gauss-Newton step,
:mod:`~gpsense.recovery.path` the path of penalties with its pruning, and :mod:`~gpsense.recovery.evidence` what the
data say of the rank, of the accuracy, and of what they cannot determine. :func:`gpsense.recover` puts them together.
"""
