"""gpsense: train, prune greedily, fine-tune, and measure when that generalises.

The numerics of one cell are pure functions of arrays; ``gpsense.grid`` runs whole grids of cells.
"""
