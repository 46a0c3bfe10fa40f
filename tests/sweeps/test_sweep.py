"""Multiruns: what is listed and skipped, what fails and is tried again, how they end; `kjcm runs` over them."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig

from kjcm.errors import Interrupted
from kjcm.keys.commands.train import BaselineConfig
from kjcm.run_folder.failures import FAILURE, failure_of, read_failure
from kjcm.run_folder.lease import leased
from kjcm.run_folder.states import state_of
from kjcm.sweeps.job import SweptJob
from kjcm.training import baseline as fitting
from tests.conftest import command

Out = pytest.CaptureFixture[str]
TWIN = ("data.scale=0.02",)
JOBS = ("baseline", "-m", "kind=majority", *TWIN)


def table(here: Path) -> pd.DataFrame:
    """The last table of the newest sweep."""
    return pd.read_csv(max(here.glob("runs/.sweeps/*/jobs.csv"), key=lambda file: file.parent.name))


def failing(monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], *seeds: int) -> list[int]:
    """Let the jobs of some seeds fail while they fit; return the seeds of all that fit."""
    fitted, original = [], fitting._majority_run

    def fit(config: BaselineConfig, *more: Any) -> Any:
        fitted.append(config.seed)
        if config.seed in seeds:
            raise error()
        return original(config, *more)

    monkeypatch.setattr(fitting, "_majority_run", fit)
    return fitted


def test_a_sweep_lists_skips_and_tries_again(here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        failing(patched, lambda: ValueError("no such thing"), 1)
        assert command(*JOBS, "seed=0,1") == 1
    said = capfd.readouterr()
    assert "job 1 of 2: seed=0\n" in said.out and "job 2 of 2: seed=1\n" in said.out
    assert "2 jobs: 2 new" in said.out and "2 jobs: 1 finished, 1 failed" in said.out
    # of an unexpected error its places, not its message: it may hold an answer
    assert "ValueError, a fault of kjcm" in said.err and "fit" in said.err and "no such thing" not in said.err
    (folder,) = (file.parent for file in here.glob(f"runs/majority/*/{FAILURE}"))
    record = json.loads((folder / FAILURE).read_text())
    assert (
        record["kind"] == "unexpected"
        and record["reason"].startswith("ValueError (")
        and "no such thing" not in record["reason"]
    )
    assert any("in baseline" in line for line in record["trace"])

    before = sorted(here.rglob("*"))
    assert command(*JOBS, "seed=0,1,2", "sweep.dry_run=true") == 0
    assert (
        "3 jobs: 1 finished, skipped, 1 failed, skipped (sweep.retry=failed tries again), 1 new"
        in capfd.readouterr().out
    )
    assert sorted(here.rglob("*")) == before  # it only lists

    assert command(*JOBS, "seed=0,1") == 1  # a failure stays one until it is tried again
    fitted = failing(monkeypatch, ValueError)
    assert command(*JOBS, "seed=0,1,2", "sweep.retry=failed") == 0
    assert fitted == [2, 1]  # what is new comes first
    assert not (folder / FAILURE).exists() and (folder / "DONE").is_file()
    assert table(here)["state"].tolist() == ["finished"] * 3

    assert command(*JOBS, "seed=0", "overwrite=true") == 0
    assert fitted == [2, 1, 0]


def test_the_others_go_on_whatever_a_job_raises(here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's is called."""

    errors = {
        0: OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        1: MemoryError(),
        2: OSError(28, "No space left on device", "runs/x"),
    }
    fitted: list[int] = []
    original = fitting._majority_run

    def fit(config: BaselineConfig, *more: Any) -> Any:
        fitted.append(config.seed)
        if config.seed in errors:
            raise errors[config.seed]
        return original(config, *more)

    monkeypatch.setattr(fitting, "_majority_run", fit)
    assert command(*JOBS, "seed=range(0,4)", "sweep.sort=accuracy") == 1
    assert fitted == [0, 1, 2, 3]
    found = table(here).set_index("seed")
    assert found["state"].to_dict() == {0: "failed", 1: "failed", 2: "failed", 3: "finished"}
    assert found.index[0] == 3  # the best first
    assert "2.00 GiB" in found["reason"][0] and "Lower data.batch_size" in found["reason"][0]
    kinds = [read_failure(Path(folder)).kind for folder in found["folder"][[0, 1, 2]]]  # type: ignore[union-attr]
    assert kinds == ["out_of_memory", "out_of_memory", "error"]
    said = capfd.readouterr()
    assert "Traceback" not in said.err and said.err.count("No space left") == 1
    assert f"failed: {found['folder'][2]}: runs/x: No space left" in said.out


def test_out_of_memory_ends_a_single_run_with_its_remedy(
    here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 0)
    assert command("baseline", "kind=majority", *TWIN, "run_dir=run") == 1
    assert "Lower data.batch_size" in capfd.readouterr().err
    assert read_failure(here / "run") == failure_of(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    )
    assert state_of(here / "run")[0] == "failed"


def test_jobs_that_cannot_run_or_are_the_same(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,0,-1", "data.cutoff=choice(10,10)") == 2
    said = capfd.readouterr()
    assert "6 jobs: 1 new, 3 repeated, 2 cannot run" in said.out and "the same run as job 1" in said.out
    assert said.err.count("seed=-1: use at least 0") == 2
    found = table(here)
    assert found["state"].tolist() == ["finished", "failed", "failed"] and found["folder"].notna().tolist() == [
        True,
        False,
        False,
    ]


def test_a_key_counts_where_one_of_the_jobs_reads_it(here: Path, capfd: Out) -> None:
    dry = ("baseline", "-m", *TWIN, "sweep.dry_run=true")
    assert command(*dry, "kind=majority,svm", "C=1,2") == 0
    assert "4 jobs: 4 new" in capfd.readouterr().out
    for words in (
        ("kind=majority", "C=1,2"),
        ("kind=majority", "seed=0,1", "C=2"),
        ("kind=majority,svm", "data.batch_size=2"),
    ):
        assert command(*dry, *words) == 2
        out, error = capfd.readouterr()
        assert not out and len(error.splitlines()) == 1 and f"{words[-1].split(',')[0]}'" in error
    assert not list(here.iterdir())


def test_a_job_that_fails_before_it_has_a_folder_leaves_its_reason(here: Path, capfd: Out) -> None:
    words = ("data=table", "data.path=nowhere.csv", *JOBS[2:3], "seed=0,1")
    assert command("baseline", "-m", *words) == 1
    assert capfd.readouterr().err.count("nowhere.csv: no such file") == 2
    assert command("baseline", "-m", *words, "sweep.dry_run=true") == 0
    assert "2 jobs: 2 failed, skipped" in capfd.readouterr().out
    assert command("runs", "where={seed: 1}") == 0
    assert "1 run: 1 failed" in capfd.readouterr().out


def test_a_run_that_is_under_way_is_left_to_who_does_it(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,1") == 0
    folder = Path(table(here)["folder"][0])
    (folder / "DONE").unlink()
    with leased(folder):
        assert command(*JOBS, "seed=0,1,2") == 0
    said = capfd.readouterr().out
    assert "3 jobs: 1 running, 1 finished, skipped, 1 new" in said
    assert "3 jobs: 1 running, 2 finished" in said and not (folder / "DONE").exists()


def test_a_job_left_to_a_process_that_is_killed_meanwhile_is_taken_up(
    here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*JOBS, "seed=0,1") == 0
    folder = Path(table(here)["folder"][0])
    (folder / "DONE").unlink()
    hold = "import sys; from pathlib import Path; from kjcm.run_folder.lease import leased\n"
    hold += f"with leased(Path({str(folder)!r})): print('held', flush=True); sys.stdin.read()"
    original = SweptJob.__call__
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"

        def run(job: SweptJob, cfg: DictConfig) -> object:
            done = original(job, cfg)
            other.kill()
            other.wait()
            return done

        monkeypatch.setattr(SweptJob, "__call__", run)
        assert command(*JOBS, "seed=0,1") == 0
    said = capfd.readouterr().out
    assert "left to it" in said and "1 left to a process that is gone by now" in said
    assert said.count("2 jobs: 2 finished") == 2


def test_a_sweep_in_batches_ends_with_one_table(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,1,2", "hydra.sweeper.max_batch_size=2") == 0
    assert len(table(here)) == 3
    assert capfd.readouterr().out.count("the table as CSV") == 1


def test_an_interrupted_sweep_ends_with_its_table(here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        failing(patched, lambda: Interrupted(15), 1)
        assert command(*JOBS, "seed=0,1,2") == 143
    said = capfd.readouterr()
    assert "3 jobs: 1 finished, 1 resumable, 1 new" in said.out and "interrupted by signal 15" in said.err
    assert command(*JOBS, "seed=0,1,2") == 0
    assert "3 jobs: 1 finished, skipped, 1 resumable, 1 new" in capfd.readouterr().out


def test_a_multirun_under_torchrun_is_refused(here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(*JOBS, "seed=0,1") == 2
    assert "one process" in capfd.readouterr().err and not list(here.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [(("run_dir=one",), "runs=DIR"), (("--cfg", "job"), "sweep.dry_run=true"), (("--cfg=job",), "sweep.dry_run=true")],
)
def test_what_names_one_run_is_refused_of_many(here: Path, capfd: Out, words: tuple[str, ...], said: str) -> None:
    assert command(*JOBS, "seed=0,1", *words) == 2
    assert said in capfd.readouterr().err and not list(here.iterdir())


def test_a_list_alone_leaves_no_file(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,1", "sweep.dry_run=true") == 0
    assert "2 jobs: 2 new" in capfd.readouterr().out and not list(here.iterdir())


def test_a_multirun_by_its_mode_is_one_too(here: Path, capfd: Out) -> None:
    assert command("baseline", *JOBS[2:], "hydra.mode=MULTIRUN", "seed=0") == 0
    assert "1 job: 1 new" in capfd.readouterr().out and list(table(here)["state"]) == ["finished"]


def test_runs_are_filtered_grouped_over_seeds_and_written(here: Path, capfd: Out) -> None:
    assert command("baseline", "-m", *TWIN, "kind=svm,majority", "seed=0,1", "data.split_seed=0,1") == 0
    capfd.readouterr()
    assert command("runs", "sort=accuracy", "out=all.csv") == 0
    assert "8 runs: 8 finished" in capfd.readouterr().out
    everything = pd.read_csv("all.csv")
    assert len(everything) == 8 and everything["accuracy"].is_monotonic_decreasing
    reports = {str(file.parent): json.loads(file.read_text()) for file in here.glob("runs/*/*/report.json")}
    for _, line in everything.iterrows():
        own = reports[str(here / line["folder"])]
        assert np.isclose(line["f1_weighted"], own["metrics"]["f1_weighted"]) and line["seed"] == own["seed"]

    assert command("runs", "where={kind: svm, data.split_seed: [0, 1]}", "group=seed", "out=groups.csv") == 0
    shown = capfd.readouterr().out
    groups = pd.read_csv("groups.csv").sort_values("data.split_seed")
    assert groups["n"].tolist() == [2, 2] and groups["name"].tolist() == ["svm", "svm"]
    for _, line in groups.iterrows():
        of = everything.query(f"kind == 'svm' and `data.split_seed` == {line['data.split_seed']}")["accuracy"].tolist()
        assert np.isclose(line["accuracy_mean"], statistics.fmean(of)) and np.isclose(
            line["accuracy_sd"], statistics.stdev(of)
        )
        assert f"{line['accuracy_mean']:.4f} ± {line['accuracy_sd']:.4f}" in shown

    assert command("runs", "out=all.csv") == 1 and "overwrite=true" in capfd.readouterr().err
    assert command("runs", "where={sed: 1}") == 2 and "sed: no run has such a key" in capfd.readouterr().err
    assert command("runs", "where={seed: 7}") == 1 and command("runs", "sort=acuracy") == 2
    assert command("runs", "runs=nowhere") == 1
    capfd.readouterr()
    for words, said in (
        (("sort=acuracy",), "Near it are accuracy"),
        (("where={state: finnished}",), "no state 'finnished'"),
        (("out=t.xlsx",), "ends in .csv"),
    ):
        assert command("runs", *words) == 2 and said in capfd.readouterr().err


def test_runs_sorts_numbers_as_numbers_and_shows_what_it_sorts_by(here: Path, capfd: Out) -> None:
    assert command("baseline", *JOBS[2:]) == 0 and command(*JOBS, "seed=2,10") == 0
    assert command("runs", "sort=seed", "out=all.csv") == 0
    assert pd.read_csv("all.csv")["seed"].tolist() == [0, 2, 10]
    capfd.readouterr()
    assert command("runs", "columns=[data.train_share]", "sort=recall_macro") == 0
    said = capfd.readouterr().out
    assert "macro recall" in said and "0.7 " in said and "0.7000" not in said


def test_a_run_that_is_there_twice_counts_once_over_seeds(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,1") == 0 and command("baseline", *JOBS[2:], "name=other", "seed=0") == 0
    capfd.readouterr()
    assert command("runs", "group=seed", "out=all.csv") == 0
    assert "1 copy of a run under another name" in capfd.readouterr().out
    assert pd.read_csv("all.csv")["n"].tolist() == [2]


def test_runs_shows_damaged_runs_too(here: Path, capfd: Out) -> None:
    assert command(*JOBS, "seed=0,1") == 0
    first, second = map(Path, table(here)["folder"])
    (first / "report.json").write_text("{")
    (second / "config.yaml").write_text("a: [")
    (second / "DONE").unlink()
    (second / FAILURE).write_text("[]")
    assert command("runs", "out=all.csv") == 0
    found = pd.read_csv("all.csv").set_index("folder")
    assert "report.json: missing or damaged" in found["reason"][str(first)]
    assert set(found["state"]) == {"damaged"} and "config.yaml: missing or damaged" in found["reason"][str(second)]
