"""Finds the files that come with the package."""

from pathlib import Path


def configs() -> Path:
    """The folder of configs: in the package where it was installed from a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    inside = here / "configs"
    return inside if inside.is_dir() else here.parent / "configs"


def find_config(path: Path) -> Path:
    """The path itself; if it is ``configs/NAME.yaml`` and no such file exists, the path of the package's own config."""
    own = configs().parent / path
    return own if path.parts[:1] == ("configs",) and not path.exists() and own.is_file() else path
