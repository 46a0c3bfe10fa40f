"""The notebook and the page on Python run as they stand."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, SMALL

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def kinds(cell: Any) -> set[str]:
    """Return the kinds of a cell's outputs, without what libraries write to stderr."""
    return {output["output_type"] for output in cell["outputs"] if output.get("name") != "stderr"}


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_outputs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < 200_000 and not re.search(r"/(home|root|tmp|work|Users)/", text)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown, made = (nbformat.reads(text, 4) for _ in range(2))
    NotebookClient(made, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(here)}}).execute()
    cells = [pair for pair in zip(shown.cells, made.cells, strict=True) if pair[0].cell_type == "code"]
    assert len(cells) > 5 and all(kinds(one) == kinds(other) for one, other in cells)
    assert [one.execution_count for one, _ in cells] == list(range(1, len(cells) + 1))
    assert "SYNTHETIC" in text and len(list(here.glob("runs/*/*/DONE"))) == 5


@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
@pytest.mark.usefixtures("unrendered")
def test_the_code_of_a_page_runs(here: Path, page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    few = ", ".join(map(repr, (*SMALL, "svm_check=0", "logger=[]")))
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace('"experiment=k_jcm"', f'"experiment=k_jcm", {few}'), names)  # our own documentation
    assert names["run"].metrics["accuracy"] > 0 and (page == "README.md" or names["page"].is_file())
