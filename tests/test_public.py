"""The public names: at most fifty, each there, each explained."""

import importlib
import subprocess
import sys
from pathlib import Path

import gpsense


def test_at_most_fifty_names_sorted_and_there():
    names = gpsense.__all__
    assert len(names) <= 50
    assert sorted(names) == sorted(set(names))
    for name in names:
        found = getattr(gpsense, name)
        assert name in dir(gpsense)
        assert (getattr(found, "__doc__", None) or "").strip(), name


def test_a_name_is_the_one_of_the_module_that_owns_it():
    for name, module in gpsense._PLACES.items():
        assert getattr(gpsense, name) is getattr(importlib.import_module(module), name)


def test_importing_gpsense_imports_no_jax():
    code = "import sys, gpsense; sys.exit(any(name.partition('.')[0] in ('jax', 'xarray') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_types_and_version_are_told():
    assert Path(gpsense.__file__).with_name("py.typed").is_file()
    assert gpsense.__version__[0].isdigit() or gpsense.__version__ == "(not installed)"
