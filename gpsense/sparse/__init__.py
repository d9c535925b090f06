"""Sparse features (arXiv 2406.08658): samples, links, directions, networks trained by one step, baselines."""
