"""A study of invented runs and its report, made once; tests must not write into them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import command
from tests.reporting.making import make_run, survey_words, write_survey
from tests.reporting.reading import Study

SEEDS = {"k_jcm": 2, "model_2": 2}  # the others have one
TRIALS = ((32, 1e-5, 4), (64, 2e-5, 8), (128, 4e-5, 8))  # of the search: batch size, learning rate, epochs
MADE = (
    "k_jcm", "k_jcm_half", "model_2", "model_3", "model_4", "majority", "svm", "svm_manual", "klue_bert", "level_4",
    "wave_5_to_6",
)  # fmt: skip
REPLICATES = 60


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Runs of most models on an invented survey: two seeds of K-JCM and Model 2, one of the others, three trials."""
    folder = tmp_path_factory.mktemp("study")
    write_survey(folder)
    runs, words = folder / "runs", survey_words(folder)
    for key in MADE:
        for seed in range(SEEDS.get(key, 1)):
            make_run(runs, key, words, seed)
    for batch, rate, epochs in TRIALS:
        make_run(runs, "search", words, 0, {"data.batch_size": batch, "optim.lr": rate, "trainer.max_epochs": epochs})
    return Study(folder, runs)


@contextmanager
def blank_pictures() -> Iterator[None]:
    """Leave pictures blank, for drawing takes most of a report's time and has tests of its own."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patched:
        for name in ("figures.draw_flow", "figures.draw_precision_by_size", "figures.draw_sizes_by_precision",
                     "result.draw_intervals"):  # fmt: skip
            patched.setattr(f"kjcm.reporting.{name}", lambda *_, **__: Figure(figsize=(1, 1)))
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    with blank_pictures():
        yield


@pytest.fixture(scope="session")
def built(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole report of `study`, its pictures blank."""
    out = tmp_path_factory.mktemp("built") / "report"
    with blank_pictures():
        assert command("report", f"runs={study.runs}", f"out={out}", f"replicates={REPLICATES}") == 0
    return out


@pytest.fixture
def copied(study: Study, tmp_path: Path) -> Callable[..., Study]:
    """Copy runs of the study to where a test may change them; keys: of the models to copy, () for all."""

    def copy(*keys: str) -> Study:
        runs = tmp_path / "runs"
        for key in keys or [folder.name for folder in study.runs.iterdir()]:
            shutil.copytree(study.runs / key, runs / key)
        return Study(study.data, runs)

    return copy
