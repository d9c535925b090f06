"""Low-rank matrix sensing: ground truths, linear maps and their losses, and methods to compare with."""
