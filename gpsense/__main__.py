"""``python -m gpsense COMMAND ...``, the same as ``gpsense COMMAND ...``."""

from launch.__main__ import main

if __name__ == "__main__":
    main()
