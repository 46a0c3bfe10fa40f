"""The recipes for clusters: their files are valid, and their commands do what one process does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT, SMALL, command

EXAMPLES = ROOT / "examples"
JOBS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.33"  # a schema of this version
# sbatch that runs its --wrap here, once for each number of --array, and prints a job's number
SBATCH = """#!{python}
import os, re, subprocess, sys
words = sys.argv[1:]
if "--dependency" in words:
    assert words[words.index("--dependency") + 1] == "afterok:7"
first, last = words[words.index("--array") + 1].split("-") if "--array" in words else (0, 0)
for task in range(int(first), int(last) + 1):
    subprocess.run(["sh", "-c", words[words.index("--wrap") + 1]], check=True, stdout=sys.stderr,
                   env={{**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}})
print(7)
"""


@pytest.fixture
def path(here: Path) -> str:
    """A PATH with sbatch and a kjcm that adds the overrides of MORE."""
    folder = here / "bin"
    folder.mkdir()
    (folder / "kjcm").write_text(f'#!/bin/sh\nexec {sys.executable} -m kjcm "$@" $MORE\n')
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable))
    for file in folder.iterdir():
        file.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def surroundings(finished: Path, here: Path, path: str) -> dict[str, str]:
    """What the recipes are given; one process codes the input to expected.csv."""
    tasks = ["예금 상담", "택시 운전", "학생 가르침", "벼농사", "용접"]
    pd.DataFrame({"workplace": "회사", "position": "", "task": tasks * 8}).to_csv("in.csv", index=False)
    own = ("chunk_rows=10", "accelerator=cpu")
    assert command("predict", f"run={finished}", "input=in.csv", "output=expected.csv", *own) == 0
    given = {"RUN": str(finished), "INPUT": "in.csv", "OUTPUT": "coded.csv", "SHARDS": "2", "MORE": " ".join(own)}
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "HF_HUB_OFFLINE": "1", **given}


def container_of(job: Any) -> tuple[list[str], dict[str, str]]:
    """Return the words and the environment of a job's container."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]], {one["name"]: one["value"] for one in container["env"]}


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.name)
def test_kubernetes_jobs_are_valid(file: Path) -> None:
    import kubernetes_validate

    job = yaml.safe_load(file.read_text())
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    wrong = {**job, "spec": {**job["spec"], "completion": 16}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    values = container_of(job)[1]
    assert values.get("SHARDS", str(job["spec"].get("completions"))) == str(job["spec"].get("completions", 16))


def test_skypilot_task_is_valid() -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed: pip install skypilot")
    task = sky.Task.from_yaml(str(EXAMPLES / "skypilot" / "train.yaml"))
    assert all(one.use_spot for one in task.resources) and [*task.storage_mounts] == ["/results"]


def test_ray_cluster_is_valid() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray is not installed: pip install 'kjcm[ray]'")
    cluster = yaml.safe_load((EXAMPLES / "ray" / "cluster.yaml").read_text())
    util.validate_config(util.prepare_config(cluster))
    with pytest.raises(Exception, match="head_start_ray_command"):
        util.validate_config({**cluster, "head_start_ray_command": []})


def test_kubernetes_jobs_code_as_one_process(surroundings: dict[str, str]) -> None:
    code, merge = (yaml.safe_load((EXAMPLES / "kubernetes" / f"{name}.yaml").read_text()) for name in ("code", "merge"))
    for index in ("1", "0"):
        run(container_of(code)[0], surroundings | {"JOB_COMPLETION_INDEX": index})
    assert not Path("coded.csv").exists()
    run(container_of(merge)[0], surroundings)
    assert Path("coded.csv").read_bytes() == Path("expected.csv").read_bytes()
    assert container_of(code)[1] == container_of(merge)[1]


def test_slurm_codes_as_one_process(surroundings: dict[str, str]) -> None:
    run(["bash", str(EXAMPLES / "slurm" / "code.sh")], surroundings)
    assert Path("coded.csv").read_bytes() == Path("expected.csv").read_bytes()


@pytest.mark.parametrize("recipe", ["kubernetes", "skypilot"])
def test_trainings_are_runs_of_their_seed(here: Path, path: str, recipe: str) -> None:
    task = yaml.safe_load((EXAMPLES / recipe / "train.yaml").read_text())
    given = {"OVERRIDES": " ".join(["experiment=k_jcm", *SMALL]), "RESULTS": "results"}
    if recipe == "kubernetes":
        words, folder, given = container_of(task)[0], here / "runs", given | {"JOB_COMPLETION_INDEX": "3"}
    else:
        words, folder, given = ["sh", "-euc", task["run"]], here / "results" / "seed-3", given | {"SEED": "3"}
    run(words, {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "WANDB_MODE": "offline", **given})
    (done,) = folder.rglob("DONE")
    assert yaml.safe_load((done.parent / "config.yaml").read_text())["seed"] == 3


def run(words: list[str], surroundings: dict[str, str]) -> None:
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
