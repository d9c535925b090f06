"""Where the files that come with the package are."""

from pathlib import Path


def configs() -> Path:
    """The folder of configs: in the package where it was installed from a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    inside = here / "configs"
    return inside if inside.is_dir() else here.parent / "configs"
