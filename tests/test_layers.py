"""The directions between rooms: each knows only those before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from kjcm.commands import COMMANDS
from tests.conftest import ROOT

PACKAGE = ROOT / "kjcm"
ROOMS = ("read", "write", "ksco", "triage", "survey", "text", "model", "engine", "linear", "run_folder", "hub", "ensemble",
         "analysis", "plot", "tracking", "training", "pretraining", "sweeps", "reporting",
         "comparison", "audit", "wandb_project", "coding", "prediction", "recoding", "drift", "exposure",
         "tabulation", "ordering", "search", "web", "review", "team", "tune", "api", "serving")  # fmt: skip
FLOOR = {
    "confusion",
    "errors",
    "markdown",
    "parts",
    "files",
    "hub_cache",
    "metrics",
    "records",
    "shell",
    "streams",
    "screen",
    "keys",
}  # known to all
SEE_A_HYDRA_CONFIG = {"api/composing.py", "parts.py", "comparison/diff.py", "audit/audit.py",
                      "cli.py", "doctor.py",
                      "keys/composition.py", "keys/checks.py",
                      "keys/overrides.py", "keys/reference.py", "keys/refusals.py", "keys/unread.py",
                      "ensemble/command.py", "ensemble/members.py", "training/ensemble.py",
                      "training/run.py", "training/train.py", "training/linear.py", "training/baseline.py",
                      "training/evaluate.py", "training/prepare.py", "pretraining/pretrain.py", "sweeps/sweep.py",
                      "sweeps/launch.py", "sweeps/job.py", "sweeps/composer.py",
                      "run_folder/runs.py", "reporting/report.py", "reporting/reproduce.py",
                      "prediction/predict.py", "coding/triage.py", "coding/export.py", "hub/push.py", "review/review.py",
                      "team/split.py", "team/agreement.py",
                      "wandb_project/workspace.py", "wandb_project/report.py", "wandb_project/sync.py",
                      "serving/serve.py", "ksco/classification_import.py", "recoding/recode.py",
                      "exposure/expose.py", "drift/drift.py", "tabulation/tabulate.py", "ordering/order.py", "search/command.py",
                      "tune/tune.py", "tune/trial_config.py", "tune/trials.py"}  # fmt: skip
HEAVY = {"torch", "lightning", "transformers", "torchmetrics", "wandb", "ray"}
MODULES = 12  # most modules of a room


def imports(file: Path, top_only: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports; `top_only` leaves out those inside functions and TYPE_CHECKING blocks."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def reached(graph: dict[str, set[str]], names: set[str]) -> set[str]:
    """Return `names` and all that they import, directly or by way of others."""
    found, ahead = set(), set(names)
    while ahead:
        found |= ahead
        ahead = set().union(*(graph.get(name, set()) for name in ahead)) - found
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_each_room_imports_only_rooms_before_it() -> None:
    for file in files():
        room = file.relative_to(PACKAGE).parts[0]
        if room not in ROOMS:
            continue
        allowed = {*FLOOR, *ROOMS[: ROOMS.index(room) + 1], *(["cli", "commands"] if room == "api" else [])}
        for module in imports(file):
            if module.startswith("kjcm."):
                assert module.split(".")[1] in allowed, f"{file.relative_to(ROOT)} imports {module}"


def test_kjcm_runs_without_the_benchmarks() -> None:
    for file in files():
        assert not [name for name in imports(file) if name.split(".")[0] == "benchmarks"], file


def test_no_modules_import_each_other() -> None:
    graph = {module_of(file): {name for name in imports(file) if name.startswith("kjcm.")} for file in files()}
    for module in graph:
        assert module not in reached(graph, graph[module]), f"{module} imports itself, by way of others"


def test_no_room_is_crowded() -> None:
    for room in (*ROOMS, "keys", "keys/commands"):
        assert len(list((PACKAGE / room).glob("[!_]*.py"))) <= MODULES, room


def test_metrics_and_config_import_no_room() -> None:
    assert not [name for name in imports(PACKAGE / "metrics.py") if name.startswith("kjcm")]
    for file in (PACKAGE / "keys").rglob("*.py"):
        found = {name for name in imports(file) if name.startswith("kjcm") and not name.startswith("kjcm.keys")}
        assert found <= {"kjcm.errors", "kjcm.metrics", "kjcm.shell"}, file


def test_only_composition_roots_see_a_hydra_config() -> None:
    seen = {
        file.relative_to(PACKAGE).as_posix()
        for file in files()
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports(file))
    }
    assert seen == SEE_A_HYDRA_CONFIG


def test_no_command_imports_heavy_packages_before_it_runs() -> None:
    """Such packages take seconds: a command first checks its config, and the lists of runs never need them."""
    graph = {module_of(file): set(imports(file, top_only=True)) for file in files()}
    for root in ("kjcm.cli", *(command.target.split(":")[0] for command in COMMANDS.values())):
        found = {name.split(".")[0] for name in reached(graph, {root})} & HEAVY
        assert not found, f"{root} imports {found} when it is imported"


def test_the_report_knows_no_torch_and_no_model() -> None:
    for file in files():
        if file.relative_to(PACKAGE).parts[0] == "reporting":
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
