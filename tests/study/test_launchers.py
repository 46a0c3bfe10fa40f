"""Several trials at once: Hydra's joblib launcher runs the jobs of a multirun in processes of their own."""

from pathlib import Path

import pytest

from tests.conftest import SMALL, Run

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")


def test_trials_at_once_are_those_of_one_after_another(tmp_path: Path, kjcm: Run) -> None:
    words = ("train", "-m", "seed=0,1", *SMALL, "logger=none")
    kjcm(*words, "runs=alone")
    kjcm(*words, "runs=together", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    found = {path.name: path for path in (tmp_path / "together" / "custom").iterdir()}
    assert len(found) == 2
    for name, path in found.items():
        for file in ("predictions.parquet", "model/model.safetensors"):
            assert (path / file).read_bytes() == (tmp_path / "alone" / "custom" / name / file).read_bytes()


def test_a_failure_in_a_process_of_the_launcher_is_told_and_the_others_go_on(tmp_path: Path, kjcm: Run) -> None:
    """Its exit code is that of any failure; the traceback that Hydra shows after it is Hydra's."""
    done = kjcm(
        "train", "-m", "optim.lr=99,0.001", *SMALL, "logger=none", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", code=1
    )  # fmt: skip
    assert "optim.lr=99.0: use more than 0, at most 10." in done.stderr
    assert len(list((tmp_path / "runs" / "custom").glob("*/DONE"))) == 1
