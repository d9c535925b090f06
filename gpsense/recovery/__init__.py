"""Recovery of a low-rank matrix from linear measurements, rank and noise unknown, in NumPy float64.

:mod:`~gpsense.recovery.maps` has the measurements, :mod:`~gpsense.recovery.steps` damped Gauss-Newton steps,
:mod:`~gpsense.recovery.path` the path of falling penalties with its pruning; :mod:`~gpsense.recovery.evidence` chooses
the rank and says how accurate the answer is and what stays undetermined. :func:`gpsense.recover` puts them together.
"""
