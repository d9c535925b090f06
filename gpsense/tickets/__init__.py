"""Masked teacher and student networks, multi-layer networks with their losses, and images from disk."""
