"""`kjcm drift`: compare a file with the held-out rows of a run's promise, and check the promise on an audit sample."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from kjcm.coding.decisions import Decider
from kjcm.coding.ensemble import AnyCoder, coder_of
from kjcm.coding.rows import Reading, reads_answers, require_readable
from kjcm.coding.run_rules import Basis, basis_of, remedy, warn_of_rows
from kjcm.drift.audits import ABOUT, SHOWN, Sample, estimates, made_for, sample_of, write_sample
from kjcm.drift.comparison import compare, require_exchanges
from kjcm.drift.record import comparison_record, estimate_record, log_comparison, log_estimates, log_sample
from kjcm.drift.rows import MOST, File, coded_file, held_texts, measured, roles_of, text_features
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, counted
from kjcm.files import require_file, require_no_input, write_json
from kjcm.hub.models import model_folder
from kjcm.keys.coding import TargetRules
from kjcm.keys.commands.drift import DriftConfig
from kjcm.keys.composition import typed
from kjcm.read.labelled import value_labels
from kjcm.read.options import read_options
from kjcm.read.table import read_chunks
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.triage.logits import Scored
from kjcm.triage.rules import BACK_OFF, DECISIONS
from kjcm.write.table import OUTPUTS

RECORD = "drift.json"

log = logging.getLogger("kjcm")


def drift(cfg: DictConfig) -> None:
    """Compare `input` with the run's held-out rows and write an audit sample, or estimate the errors of `audited`.

    Raises:
        ConfigError: keys do not fit each other.
        KjcmError: the run has no held-out rows, a file is not usable, or an output exists.
    """
    config = typed(cfg, DriftConfig)
    if (config.input is None) == (config.audited is None):
        raise ConfigError(
            "input and audited: give input=FILE to compare a file, or audited=FILE for a reviewed sample."
        )
    folder = model_folder(config.run)
    settings = load_settings(folder)
    if config.audited is not None:
        return _estimate(config, settings)
    _require_free(config, folder)
    require_exchanges(config.exchanges, 1 - config.triage.confidence)
    require_device("accelerator", config.accelerator)
    rules = config.triage
    whole = TargetRules(
        threshold=rules.threshold, confidence=rules.confidence, alpha=0.3, k=SHOWN, back_off=[], managers="none",
        calibrated=True, index="off", index_file=None, target_error=rules.target_error,
    )  # fmt: skip
    basis = basis_of(whole, folder, settings)
    if basis.held is None:
        raise KjcmError(
            f"run={config.run}: trained without validation rows, so it promises nothing. {remedy(settings)}"
        )
    if len(basis.held.labels) < 2:
        raise KjcmError(
            f"run={config.run}: {counted(len(basis.held.labels), 'held-out row')}; at least 2 are needed. "
            "Train it with a larger data.validation."
        )
    warn_of_rows({"validation_rows": len(basis.held.labels), **basis.about})
    if basis.about["out_of_fold"]:
        log.warning(
            "Other models than the file's made the held-out rows' probabilities. So the tests of probabilities, groups and "
            "codes may reject like files more often."
        )
    _compare(config, folder, settings, basis, basis.held)


def _require_free(config: DriftConfig, folder: Path) -> None:
    """Raise an error if an output exists or would replace an input, or a decision or the sample's kind is unknown.

    Args:
        config: the keys.
        folder: of the model.
    """
    if DECISIONS[BACK_OFF] in config.decisions:
        raise ConfigError(f"decisions={DECISIONS[BACK_OFF]}: kjcm drift backs off no rows.")
    if strange := [name for name in config.decisions if name not in DECISIONS[:BACK_OFF]]:
        raise ConfigError(f"decisions={strange[0]}: use some of {', '.join(DECISIONS[:BACK_OFF])}.")
    if not config.decisions:
        raise ConfigError("decisions=[]: name at least one decision, as [accept].")
    out = Path(config.output).expanduser() if config.output else None
    if out and out.exists() and not out.is_dir():
        raise ConfigError(f"output={out}: is a file. Name a folder.")
    outputs = [out / RECORD] if out else []
    if config.sample:
        target = Path(config.sample).expanduser()
        if target.suffix.lower() not in OUTPUTS:
            raise ConfigError(f"sample={target}: write one of {', '.join(OUTPUTS)}.")
        require_no_input(target, [config.input, folder], "sample")
        outputs += [target, target.with_name(f"{target.name}.json")]
    if not config.overwrite and (there := [file for file in outputs if file.exists()]):
        raise KjcmError(f"{there[0]} exists. Choose another output, or add overwrite=true.")


def _compare(config: DriftConfig, folder: Path, settings: Settings, basis: Basis, held: Scored) -> None:
    """Compare the file, and write the record and the sample."""
    triage = basis.triage()
    source = require_file(str(config.input), "input file")
    named = vars(config.columns).items()
    columns = {role: settings.columns.get(role) if name == "@run" else name for role, name in named}
    options = read_options(config, "", [source], columns)
    coder = coder_of(folder, None, config.accelerator, config.precision, basis.temperature, compiled=False)
    decider = Decider(settings, triage, SHOWN)
    reading = Reading(
        str(source), columns, "none", settings.manager_words,
        [*decider.added.labels, *(ABOUT if config.sample else ())], value_labels(source, options),
        options, settings.wording, settings.covariates, reads_answers(settings), "missing",
    )  # fmt: skip
    require_readable(next(read_chunks(source, config.chunk_rows, options)), reading)
    roles, majors = roles_of(settings.columns), triage.tree.majors
    texts = _held_texts(config, folder, settings, held, roles, coder)
    frames = read_chunks(source, config.chunk_rows, options)
    file = coded_file(frames, reading, coder, decider, roles, texts=texts is not None, seed=config.seed)
    probability = triage.probability(held)
    chosen = np.sort(np.random.default_rng(config.seed).permutation(len(probability))[:MOST])
    texts = None if texts is None else texts.iloc[chosen]
    before = measured(probability[chosen], settings.classes, majors, texts)
    found, moved = compare(
        before, file.measured, list(settings.classes), level=1 - config.triage.confidence, exchanges=config.exchanges,
        seed=config.seed,
    )  # fmt: skip
    record = comparison_record(probability, len(before.probability), file, triage, found, moved, config, settings)
    log_comparison(record, sampled=config.sample is not None)
    if config.sample:
        sample = _sample(config, file)
        note = {
            "classes_hash": settings.classes_hash, "run": config.run, "input": config.input, "made_by": {"columns": columns},
            "triage": asdict(config.triage), "audit": {"strata": _strata(sample), **sample.about},
        }  # fmt: skip
        target, own = Path(config.sample).expanduser(), made_for(settings, config.triage.target_error)
        write_sample(
            sample, file, decider, source, target, options, note, own, config.chunk_rows, overwrite=config.overwrite
        )
        log_sample(sample.about, config)
    if config.output:
        write_json(Path(config.output).expanduser() / RECORD, record)


def _held_texts(
    config: DriftConfig, folder: Path, settings: Settings, held: Scored, roles: list[str], coder: AnyCoder
) -> pd.DataFrame | None:
    """Return the features of the held-out rows' texts; None, with a warning, if the run's data are not there."""
    why = "the rows that set the thresholds are not validation rows of its data"
    rows = None
    try:
        rows = held_texts(folder.parent, settings, held)
    except KjcmError as error:
        why = str(error).rstrip(".")
    if rows is None:
        log.warning("Texts are not compared: a run keeps no texts, and %s. Confidence and groups are compared.", why)
        return None
    return text_features(rows, roles, coder)


def _sample(config: DriftConfig, file: File) -> Sample:
    rules = config.triage
    return sample_of(
        file, config.decisions, target=rules.target_error, expected=config.expected_error, half_width=config.half_width,
        level=1 - rules.confidence, seed=config.seed,
    )  # fmt: skip


def _strata(sample: Sample) -> dict[str, dict[str, int]]:
    return {name: {"rows": rows, "sampled": sample.sampled[name]} for name, rows in sample.rows.items()}


def _estimate(config: DriftConfig, settings: Settings) -> None:
    """Estimate the errors from a reviewed sample."""
    path = require_file(str(config.audited), "reviewed sample")
    options = read_options(config, "", [path], {})
    found = estimates(path, options, settings, config.triage.target_error, 1 - config.triage.confidence)
    log_estimates({decision: estimate_record(one, decision, config) for decision, one in found.items()}, config)
