"""`wandb sweep sweep.yaml` and `wandb agent`, with a stand-in for W&B's server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, SMALL
from tests.test_sweep_yaml import SWEEP
from tests.tracking.wandb_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    found.start()
    yield found
    found.stop()


def wandb(server: Server, place: Path, *words: object) -> str:
    """Run W&B's own command; return what it said."""
    binaries = Path(sys.executable).parent
    surroundings = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WANDB_")},
        "WANDB_BASE_URL": server.address, "WANDB_API_KEY": "0" * 40, "HOME": str(place), "PYTHONPATH": str(ROOT),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [binaries / "wandb", *words], cwd=place, env=surroundings, timeout=240, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_an_agent_trains_the_trials_of_sweep_yaml(server: Server, tmp_path: Path) -> None:
    said = wandb(server, tmp_path, "sweep", "--entity", "me", ROOT / "sweep.yaml")
    assert "wandb agent me/kjcm/abcd1234" in said
    sent = yaml.safe_load(server.sweep)
    assert {key: sent[key] for key in ("command", "method", "metric", "parameters")} == {
        key: SWEEP[key] for key in ("command", "method", "metric", "parameters")
    }
    fixed = {key: entry["value"] for key, entry in SWEEP["parameters"].items() if "value" in entry}
    small = dict(word.split("=") for word in SMALL)
    for size in (32, 64):
        server.trials.append({**fixed, **small, "trainer": "cpu", "trainer.max_epochs": 1, "data.batch_size": size})
    said = wandb(server, tmp_path, "agent", "me/kjcm/abcd1234")
    folders = [path.parent for path in tmp_path.glob("runs/k_jcm/*/DONE")]
    assert len(folders) == 2, said
    assert "Traceback" not in said and "W&B:" not in said.replace("W&B: http", "")
    assert server.exits == {"trial1": 0, "trial2": 0}
    for name, size in (("trial1", 32), ("trial2", 64)):
        run = server.runs[name]
        assert run["sweep"] == "abcd1234" and run["jobType"] == "train"
        (folder,) = [place for place in folders if f"k_jcm-{place.name}" == run["displayName"]]
        assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["batch_size"] == size
        assert not (folder / "predictions.parquet").exists()  # the test rows were not read
        report = yaml.safe_load((folder / "report.json").read_text())
        found = [point["val_f1_weighted"] for point in server.points[name] if "val_f1_weighted" in point]
        assert found[-1] == pytest.approx(report["validation"]["f1_weighted"], abs=1e-6)  # what the sweep judges by
