"""The notebook runs from its first cell to its last, in a kernel of its own."""

from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


def test_the_notebook_runs() -> None:
    import nbformat  # here, since it takes seconds to import and every process collects this file
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    counts = [cell.execution_count for cell in done.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
