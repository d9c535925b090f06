"""What a user's own measurements, table or network are given to; each stands on :mod:`gpsense.grid`."""

from gpsense.estimators.find_tickets import Tickets, find_tickets
from gpsense.estimators.fit_sparse import SparseFit, fit_sparse
from gpsense.estimators.recover import Recovery, recover

__all__ = ["Recovery", "SparseFit", "Tickets", "find_tickets", "fit_sparse", "recover"]
