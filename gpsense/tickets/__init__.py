"""Masked networks: weights, scores, masks, tickets."""
