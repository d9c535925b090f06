"""Sparse features (arXiv 2406.08658): samples, links, scores of coordinates, networks trained by one step, baselines."""
