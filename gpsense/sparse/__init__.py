"""Sparse features (arXiv 2406.08658): hermite.py, the link functions, activations and their Hermite coefficients."""
