"""The wheel, installed elsewhere, has conf inside and trains from another directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kjcm.review.app import PAGE
from tests.conftest import ROOT, SMALL


@pytest.mark.slow
def test_the_installed_wheel_trains_from_another_directory(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {"conf/train.yaml", "experiments/paper.yaml", "ksco/ksco7.tsv", "reporting/page.html.j2", "plot/fonts/kjcm-hangul.ttf",
            "plot/fonts/OFL.txt", "conf/serve.yaml", "serving/page.html"}  # fmt: skip
    data |= {f"review/page/{name}" for name in PAGE}
    assert {f"kjcm/{name}" for name in data} <= names
    assert not [name for name in names if name.startswith(("tests/", "runs/", "benchmarks/")) or name.endswith(".pyc")]
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(site),
            str(wheel),
        ],
        check=True,
    )
    surroundings = {**os.environ, "PYTHONPATH": str(site)}
    where = "import kjcm; print(kjcm.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=work, env=surroundings, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(site))
    done = subprocess.run(
        [site / "bin" / "kjcm", "train", *SMALL, "experiment=k_jcm", "run_dir=run"],
        cwd=work, env=surroundings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (work / "run" / "DONE").is_file()
    assert sorted(path.name for path in work.iterdir()) == ["run", "runs"]  # runs holds the token cache
