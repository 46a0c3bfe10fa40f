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
    done = kjcm(
        "train", "-m", "data.train_share=1,0.7", *SMALL, "logger=none", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        code=2,
    )  # fmt: skip
    assert "data.train_share=1.0 leaves no test rows" in done.stderr and "Traceback" not in done.stderr
    assert len(list((tmp_path / "runs" / "custom").glob("*/DONE"))) == 1
