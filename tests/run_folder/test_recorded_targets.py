"""A `_target_` in the config of a run folder is never imported by a command that only reads the folder."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.conftest import SMALL, command

TRAP = "from pathlib import Path\nPath('sprung').touch()\n"


@pytest.fixture
def trapped(calibrated: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a finished run whose config names a trap for every part."""
    run = here / "runs" / "custom" / "trapped"
    shutil.copytree(calibrated, run)
    file = run / "config.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    part = {"_target_": "trap.Part"}
    config |= {
        "loss": part,
        "optim": {**part, "lr": 0.1},
        "schedule": part,
        "callbacks": {"a": part},
        "metrics": {"b": part},
    }
    config["logger"], config["augment"] = {"c": part}, {**config["augment"], "rows": part}
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    (here / "trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(str(here))
    return run


def test_no_command_that_reads_a_run_imports_its_targets(
    trapped: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"id": [1], "workplace": ["병원"], "position": ["간호사"], "task": ["환자 간호"]}).to_csv(
        "in.csv", index=False
    )
    commands = [
        ("evaluate", f"run={trapped}"),
        ("predict", f"run={trapped}", "input=in.csv", "output=out.csv"),
        ("triage", f"run={trapped}"),
        ("runs", "runs=runs"),
        ("report", "runs=runs", "out=report"),
    ]
    for words in commands:
        code = command(*words)
        error = capfd.readouterr().err
        assert code in (0, 1) and "a fault of kjcm" not in error, (words, error)
    assert not (here / "sprung").exists() and (here / "out.csv").is_file()


def test_the_trap_springs_when_a_command_line_names_it(trapped: Path, here: Path) -> None:
    assert command("train", *SMALL, "loss._target_=trap.Part") == 2
    assert (here / "sprung").exists()
