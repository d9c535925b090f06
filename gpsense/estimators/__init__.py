"""Estimators for a user's own data: measurements of a matrix, a regression table, or a network."""

from gpsense.estimators.find_tickets import Tickets, find_tickets
from gpsense.estimators.fit_sparse import SparseFit, fit_sparse
from gpsense.estimators.recover import Recovery, recover

__all__ = ["Recovery", "SparseFit", "Tickets", "find_tickets", "fit_sparse", "recover"]
