"""The directions between rooms: each knows only those before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "kjcm"
ROOMS = ("ksco", "triage", "survey", "text", "engine", "model", "study", "report", "coding", "review", "bench", "tune")
FLOOR = {"errors", "files", "markdown", "read", "records", "shell", "streams"}  # known to all
COMPOSITION_ROOTS = {"cli.py", "schema.py", "overrides.py", "unread.py",
                     "study/job.py", "study/train.py", "study/baseline.py", "study/evaluate.py",
                     "study/prepare.py", "study/doctor.py", "study/sweep.py", "study/swept.py", "study/planned.py",
                     "study/runs.py", "report/report.py", "report/reproduce.py",
                     "coding/predict.py", "coding/triage.py", "coding/export.py", "review/review.py",
                     "bench/train.py", "bench/predict.py", "bench/prepare.py",
                     "tune/tune.py", "tune/words.py", "tune/part.py"}  # fmt: skip
HEAVY = {"torch", "lightning", "transformers", "torchmetrics", "wandb"}


def imports(file: Path, top_only: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports; `top_only` leaves out those inside functions and TYPE_CHECKING blocks."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_each_room_imports_only_rooms_before_it() -> None:
    for file in files():
        room = file.relative_to(PACKAGE).parts[0]
        if room not in ROOMS:
            continue
        allowed = {*FLOOR, *ROOMS[: ROOMS.index(room) + 1]} | (
            {"schema", "unread", "overrides"} if room in ("study", "report", "tune") else set()
        )
        for module in imports(file):
            if module.startswith("kjcm."):
                assert module.split(".")[1] in allowed, f"{file.relative_to(ROOT)} imports {module}"


def test_metrics_and_schema_import_nothing_of_ours_but_errors() -> None:
    assert not [name for name in imports(PACKAGE / "model" / "metrics.py") if name.startswith("kjcm")]
    assert {name for name in imports(PACKAGE / "schema.py") if name.startswith("kjcm")} <= {"kjcm.errors"}


def test_only_composition_roots_see_a_hydra_config() -> None:
    seen = {
        file.relative_to(PACKAGE).as_posix()
        for file in files()
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports(file))
    }
    assert seen == COMPOSITION_ROOTS


def test_only_the_rooms_of_the_model_import_heavy_packages_at_the_top() -> None:
    for file in files():
        if file.relative_to(PACKAGE).parts[0] not in ("engine", "model"):
            found = {name.split(".")[0] for name in imports(file, top_only=True)} & HEAVY
            assert not found, f"{file.relative_to(ROOT)} imports {found} when it is imported"


def test_the_report_knows_no_torch_and_no_model() -> None:
    for file in files():
        if file.relative_to(PACKAGE).parts[0] == "report":
            names = set(imports(file))
            assert not {name.split(".")[0] for name in names} & HEAVY, file
            assert not [name for name in names if name.startswith(("kjcm.model", "kjcm.text", "experiments"))], file


def test_no_room_but_ksco_knows_how_a_ksco_code_is_built() -> None:
    """Where a rule of KSCO shows is the twin, which invents KSCO codes, and nowhere else."""
    for file in files():
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith("ksco/") and name != "survey/twin.py":
            assert "spellings(" not in file.read_text(encoding="utf-8") and '"A0' not in file.read_text(
                encoding="utf-8"
            ), name


def test_every_module_says_its_job() -> None:
    for file in files():
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file
