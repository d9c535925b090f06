"""The commands ``python -m launch.NAME``, which deal with files, processes, devices, the clock and users."""

import gc

from launch import interrupt

if interrupt.is_command():  # before the slow imports
    interrupt.install()
    gc.set_threshold(100_000, 20, 20)  # scanning the many lasting objects of imports and traces took a tenth
