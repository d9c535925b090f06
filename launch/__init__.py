"""Commands: files, processes, devices, the clock and people; ``python -m launch.NAME``."""
