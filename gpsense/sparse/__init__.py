"""Sparse features: the few coordinates and directions that y depends on, and what finds them."""
