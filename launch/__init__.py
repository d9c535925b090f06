"""Commands: files, processes, devices, the clock and people; ``python -m launch.NAME``."""

from launch import interrupt

if interrupt.is_command():  # before what takes long to import
    interrupt.install()
