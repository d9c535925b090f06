"""Commands: files, processes, devices, the clock and people; ``python -m launch.NAME``."""

import gc

from launch import interrupt

if interrupt.is_command():  # before what takes long to import
    interrupt.install()
    gc.set_threshold(100_000, 20, 20)  # imports and traces are many objects that stay: to look at them took a tenth
