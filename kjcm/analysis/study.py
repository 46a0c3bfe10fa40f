"""The runs of one study and their cached results: estimates, each group's figures, the post-hoc analysis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.analysis.content import NOT_RUN, Estimate, Value
from kjcm.analysis.models import Model, base_words, command_for
from kjcm.analysis.scores import Answers, per_group
from kjcm.analysis.selection import Listed, Run
from kjcm.analysis.statistics import Resamples, estimates, five_numbers, interval, quartiles, regression
from kjcm.confusion import precision_recall_f1
from kjcm.ksco.classification import Classification
from kjcm.metrics import further

MAIN = "k_jcm"
LARGE = 100  # training rows; the paper finds one group this large with precision 0
WITHOUT_INTERVAL = ("p", "never_right_though_large", "below.groups", "above.groups")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Runs of one cohort and split, and the settings of their report.

    Attributes:
        models: every model of a report, by key.
        runs: key -> its runs by seed; a model that is not run has no entry.
        anchor: the run that defines the study's cohort and split.
        listed: every run folder found, and its status.
        classification: the classification of the codes.
        folder: the folder of all runs.
        texts: the cohort's rows (id, text, code, side); None if texts must not be shown.
        replicates: number of bootstrap resamples.
        bootstrap_seed: seed of the resamples.
    """

    models: Mapping[str, Model]
    runs: Mapping[str, tuple[Run, ...]]
    anchor: Run
    listed: tuple[Listed, ...]
    classification: Classification
    folder: Path
    texts: pd.DataFrame | None
    replicates: int
    bootstrap_seed: int
    _post_hoc: dict[str, dict[str, Estimate]] = field(default_factory=dict, repr=False)

    @property
    def synthetic(self) -> bool:
        """Whether the data are the synthetic twin's."""
        return bool(self.anchor.report["synthetic"])

    @property
    def comparable(self) -> bool:
        """Whether the data are the paper's own survey."""
        return self.anchor.source == "kwcs" and not self.synthetic

    @property
    def reference(self) -> Run:
        """K-JCM's first run, or the anchor if K-JCM is not run."""
        return self.runs.get(MAIN, (self.anchor,))[0]

    def label(self, key: str) -> str:
        """Return a model's label in tables."""
        return self.models[key].label

    @cached_property
    def base(self) -> tuple[str, ...]:
        """The overrides that all models of the study share."""
        return base_words(self.anchor.words, self.models[self.anchor.name])

    def applies(self, key: str) -> bool:
        """Return whether the study needs a model and its data allow it; a model that is run always applies."""
        return key in self.runs or self.models[key].applies(self.anchor.source, self.base)

    def command(self, key: str) -> str:
        """Return the command that makes a model's run."""
        scale = self.anchor.config["preset"]["scale"] if self.anchor.source == "synthetic" else None
        return command_for(self.models[key], self.base, scale, self.folder)

    def missing(self, keys: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return label and command of the models among `keys` that are not run."""
        return tuple((self.label(key), self.command(key)) for key in keys if self.applies(key) and key not in self.runs)

    def answers(self, key: str) -> tuple[Answers, ...]:
        """Return each run's answers."""
        return tuple(run.answers for run in self.runs[key])

    def estimated(self, runs: Sequence[Answers]) -> dict[str, Estimate]:
        """Return the metrics of one model's runs with this study's resamples."""
        return estimates(runs, self.replicates, self.bootstrap_seed)

    @cached_property
    def metrics(self) -> dict[str, dict[str, Estimate]]:
        """Model key -> metric -> estimate on the model's own test rows."""
        return {key: self.estimated(self.answers(key)) for key in self.runs if not self.models[key].is_sweep}

    @cached_property
    def further(self) -> dict[str, dict[str, Estimate]]:
        """Model key -> user-defined metric -> its mean over seeds, from report.json."""
        found = {}
        for key in self.metrics:
            measured = [run.report["metrics"] for run in self.runs[key]]
            names = [name for name in further(measured[0]) if all(name in values for values in measured)]
            found[key] = {name: mean_of(values[name] for values in measured) for name in names}
        return found

    @cached_property
    def groups(self) -> dict[str, list[pd.DataFrame]]:
        """Model key -> for each run the figures of each predictable group, by code: precision, recall, f1,
        n_test, n_predicted and n_train."""
        return {
            key: [group_figures(run) for run in runs]
            for key, runs in self.runs.items()
            if not self.models[key].is_sweep
        }

    @cached_property
    def titles(self) -> dict[str, str]:
        """Code -> its title in the classification's own language."""
        known = {code: self.classification.title(code) for code in self.classification.levels}
        return {**known, **{row["code"]: row["title"] for run in self.all_runs for row in run.report["per_class"]}}

    @cached_property
    def english(self) -> dict[str, str]:
        """Code -> its English title, '' if it has none."""
        return {row["code"]: row["title_en"] for run in self.all_runs for row in run.report["per_class"]}

    @property
    def all_runs(self) -> list[Run]:
        """All runs of all models."""
        return [run for runs in self.runs.values() for run in runs]

    def major(self, code: str) -> str:
        """Return the major group of a code."""
        return self.classification.at_level(code, 1) or code[:1]

    def post_hoc(self, key: str) -> dict[str, Estimate]:
        """Return the post-hoc analysis of a model (see `post_hoc_figures`), over seeds and resamples; computed once."""
        if key not in self._post_hoc:
            self._post_hoc[key] = self._post_hoc_over_seeds(key)
        return self._post_hoc[key]

    def _post_hoc_over_seeds(self, key: str) -> dict[str, Estimate]:
        per_seed = [self._post_hoc_of(run) for run in self.runs[key]]
        values, drawn = [whole for whole, _ in per_seed], [resampled for _, resampled in per_seed]
        found = {}
        for name in values[0]:
            own = np.array([value[name] for value in values if name in value])
            means = (
                np.mean([[one.get(name, np.nan) for one in run] for run in drawn], axis=0) if self.replicates else []
            )
            # A resample's p-value or count does not estimate that of the population.
            bounded = len(means) and np.isfinite(means).all() and name not in WITHOUT_INTERVAL
            low, high = interval(means) if bounded else (None, None)
            sd = float(own.std(ddof=1)) if len(own) > 1 else None
            found[name] = Estimate(float(own.mean()), sd, low, high)
        return found

    def _post_hoc_of(self, run: Run) -> tuple[dict[str, float], list[dict[str, float]]]:
        answers, codes = run.answers, list(run.trained)
        sizes = np.array([run.trained[code] for code in codes], float)
        majors = np.array([self.major(code) for code in codes])
        resamples = Resamples(len(answers), answers.clusters, self.replicates, self.bootstrap_seed)
        whole = post_hoc_figures(group_precision(answers, codes), sizes, majors)
        return whole, [
            post_hoc_figures(group_precision(answers, codes, weights), sizes, majors) for weights in resamples
        ]


def group_figures(run: Run) -> pd.DataFrame:
    """Return precision, recall, f1, n_test, n_predicted, n_train of each group that a run can predict, by code.

    A group without predictions has precision 0.
    """
    frame = per_group(run.answers).set_index("code").reindex(list(run.trained), fill_value=0)
    return frame.assign(n_train=list(run.trained.values()))


def group_precision(answers: Answers, codes: Sequence[str], weights: NDArray[np.intp] | None = None) -> Floats:
    """Return each group's precision [codes], 0 if it is never predicted; weights: [rows] of a resample."""
    precision, _, _ = precision_recall_f1(*answers.coded.by_code(weights))
    place = pd.Index(answers.coded.codes).get_indexer(pd.Index(list(codes)))
    values = np.append(precision, 0.0)  # index -1: codes that do not occur
    found: Floats = values[place]
    return found


def post_hoc_figures(precision: Floats, sizes: Floats, majors: NDArray[np.str_]) -> dict[str, float]:
    """Return the paper's post-hoc analysis of one model: Fig. 2, Table 4 and Supplementary Fig. 1.

    Args:
        precision: [groups].
        sizes: [groups] training rows.
        majors: [groups] major groups.
    """
    found: dict[str, float] = {"never_right_though_large": float(((precision == 0) & (sizes >= LARGE)).sum())}
    if (line := regression(sizes, precision)) is not None:
        found |= {"r_squared": line.r_squared, "p": line.p, "slope": line.slope, "intercept": line.intercept}
    for major in np.unique(majors):
        own = precision[majors == major]
        found |= {f"{major}.{name}": value for name, value in (five_numbers(own) or {}).items()}
    for side, chosen in (("below", precision < 0.5), ("above", precision >= 0.5)):
        if (parts := quartiles(sizes[chosen])) is not None:
            found |= {f"{side}.q1": parts[0], f"{side}.median": parts[1], f"{side}.q3": parts[2]}
        found[f"{side}.groups"] = float(chosen.sum())
    return found


def mean_of(values: Iterable[float]) -> Estimate:
    """Return mean and SD over seeds, without an interval."""
    own = np.array(list(values), float)
    return Estimate(float(own.mean()), float(own.std(ddof=1)) if len(own) > 1 else None)


def not_run(label: str, width: int) -> tuple[Value, ...]:
    """Return the table row of a model that is not run."""
    return (label, NOT_RUN, *([None] * (width - 2)))
