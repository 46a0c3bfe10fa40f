"""The launchers of Hydra's under a sweep: what they run is what is run alone; failures, DDP and GPUs in each."""

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL, Run
from tests.sweeps.slurm import stand_in

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

ONE = (*SMALL, "trainer.max_epochs=1", "logger=none")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LOCAL = ("hydra/launcher=submitit_local",)
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30", "hydra.launcher.mem_gb=4")
DDP = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.deterministic=true",
    "trainer.num_workers=0",
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs made one after another, in this process."""
    from tests.conftest import command

    folder = tmp_path_factory.mktemp("alone")
    assert command("train", "-m", "seed=0,1", *ONE, f"runs={folder}") == 0
    return folder / "custom"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL, SLURM], ids=["joblib", "submitit_local", "submitit_slurm"])
def test_a_launcher_runs_what_is_run_alone_and_tells_of_failures(
    tmp_path: Path, kjcm: Run, alone: Path, launcher: tuple[str, ...]
) -> None:
    path = {"PATH": f"{stand_in(tmp_path)}:{os.environ['PATH']}"}
    seeds = "0,1" if launcher is JOBLIB else "0"
    words = ("train", "-m", f"seed={seeds}", "data.train_share=0.7,1", *ONE, *launcher)
    done = kjcm(*words, code=2, env=path)
    jobs = 2 * len(seeds.split(","))
    assert f"{jobs} jobs: {jobs} new" in done.stdout and "data.train_share=1.0 leaves no test rows" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    if launcher is JOBLIB:  # the others' lines are in files of their own
        assert re.search(r"^\[job \d of 4\] seed=0 data.train_share=0.7$", done.stdout, re.M)
        assert len(re.findall(r"^\[job \d of 4\] epoch 1/1: loss ", done.stdout, re.M)) == 2
        assert len(re.findall(r"^\[job \d of 4\] kjcm train: data.train_share=1.0 ", done.stderr, re.M)) == 2
    found = {file.parent.name: file.parent for file in tmp_path.glob("runs/custom/*/DONE")}
    assert len(found) == jobs / 2
    for name, run in found.items():
        for file in ("predictions.parquet", "model/model.safetensors"):
            assert (run / file).read_bytes() == (alone / name / file).read_bytes()
    if launcher is SLURM:
        script = (tmp_path / "script.sh").read_text()
        assert "#SBATCH --array=0-1" in script and "submitit.core._submit" in script
        assert "#SBATCH --time=30" in script and "#SBATCH --mem=4GB" in script
        assert "#SBATCH --signal=USR2@" in script


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL], ids=["joblib", "submitit_local"])
def test_the_processes_of_a_job_do_that_job_alone(tmp_path: Path, kjcm: Run, launcher: tuple[str, ...]) -> None:
    kjcm("train", "-m", "seed=0,1", *ONE, *DDP, *launcher)
    folders = sorted(tmp_path.glob("runs/*/*/DONE"))
    assert len(folders) == 2
    given = [yaml.safe_load((file.parent / "hydra" / "overrides.yaml").read_text()) for file in folders]
    assert sorted(word for words in given for word in words if word.startswith("seed=")) == ["seed=0", "seed=1"]
    for file in folders:
        assert (file.parent / "train.log").read_text().count("run folder") == 1


@pytest.mark.fault
def test_what_kills_a_process_of_a_job_kills_no_sweep(tmp_path: Path, kjcm: Run) -> None:
    """The second process of the first job cannot begin: Lightning kills the first one for it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('LOCAL_RANK') == '1' and 'seed=0' in open('/proc/self/cmdline').read():\n    os._exit(3)\n"
    )
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[2]}"}
    done = kjcm("train", "-m", "seed=0,1", *ONE, *DDP, code=1, env=path, fresh=True)
    assert "2 jobs: 1 failed, 1 finished" in done.stdout and "killed by signal 9" in done.stdout


@pytest.mark.slow
def test_jobs_at_once_have_a_card_each(tmp_path: Path, kjcm: Run) -> None:
    surroundings = {"CUDA_VISIBLE_DEVICES": "6,7", "TMPDIR": str(tmp_path)}
    words = ("train", "-m", "seed=0,1,2", *ONE, *JOBLIB, "trainer.accelerator=auto")
    done = kjcm(*words, env=surroundings)
    assert sum("computes on GPU 6" in line for line in done.stdout.splitlines()) == 1
    assert sum("computes on GPU 7" in line for line in done.stdout.splitlines()) == 1
