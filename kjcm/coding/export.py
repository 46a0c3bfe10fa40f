"""`kjcm export`: a finished run's model as ONNX, checked against PyTorch on real rows first."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.coding.coder import Coder
from kjcm.coding.onnx import INPUTS, make_onnx, saturates, versions
from kjcm.coding.rows import first_texts
from kjcm.ensemble.files import load_ensemble
from kjcm.errors import KjcmError
from kjcm.files import digest, require_file, require_no_input, write_json
from kjcm.keys.commands.sharing import ExportConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import load_classification
from kjcm.read.options import read_options
from kjcm.run_folder.contents import recorded_data, run_config
from kjcm.run_folder.held_out import CALIBRATION
from kjcm.run_folder.model_card import CARD
from kjcm.run_folder.model_folder import finished_run, load_model, load_settings
from kjcm.survey.inputs import cohort_of

MODEL, NOTE = "model.onnx", "export.json"
COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "kjcm.json",
    CALIBRATION,
    CARD,
)  # no other file of the folder
BATCH = 16  # texts per batch of the check

log = logging.getLogger("kjcm")


def export(cfg: DictConfig) -> None:
    """Write model.onnx with tokenizer, classes, card and check results into `out`, whole or not at all.

    Raises:
        KjcmError: the run is not finished, `out` exists, there are no rows to check with, or the ONNX model differs.
    """
    config = typed(cfg, ExportConfig)
    run, kind = finished_run(config.run), config.format
    _require_exportable(run)
    out = Path(config.out) if config.out else run / "export" / kind
    require_no_input(out, [config.input], "out")
    if out.exists() and not (config.overwrite and (out / NOTE).is_file()):
        raise KjcmError(f"{out} exists. Choose another out=DIR, or add overwrite=true to replace an existing export.")
    made_with, int8 = versions(f"format={kind}"), kind == "onnx-int8"
    narrow = int8 and (saturates() if config.narrow is None else config.narrow)
    texts = _texts(config, run)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        model, _, _ = load_model(run / "model")
        make_onnx(model, part / MODEL, int8=int8, narrow=narrow)
        found = checked(run, part / MODEL, texts)
        _require_same(found, config)
        for name in COPIED:
            if (run / "model" / name).is_file():
                shutil.copyfile(run / "model" / name, part / name)
        note = {"format": kind, "model": digest(run / "model"), "onnx": digest(part / MODEL), "versions": made_with}
        write_json(part / NOTE, {**note, "check": found, **({"narrow": narrow} if int8 else {})})
        before = out.with_name(f".{out.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        if out.exists():
            out.rename(before)
        part.rename(out)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise KjcmError(f"{out}: cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info(
        "%s rows: equal top-1 codes %.2f %%, logits differ by at most %.2g, probabilities by %.2g on average",
        f"{found['rows']:,}", 100 * found["equal_codes"], found["logit_difference"], found["probability_difference"],
    )  # fmt: skip
    if int8 and not narrow:
        log.info("the weights have 8 bits, correct on ARM and on x86 with VNNI; for other processors add narrow=true")
    log.info("exported: %s", out)


def _require_exportable(run: Path) -> None:
    """Raise KjcmError if a run's model is no encoder; of an ensemble, name the members that are."""
    settings = load_settings(run / "model")
    if settings.kind == "ensemble":
        trained = [run / "members" / member.name / "all" for member in load_ensemble(run / "model")[1]]
        encoders = [one for one in trained if one.is_dir() and load_settings(one / "model").kind == "encoder"]
        more = f" Its encoder has one: run={encoders[0]}." if encoders else ""
        raise KjcmError(f"{run}: an ensemble has no ONNX export. Code with it by `kjcm predict`.{more}")
    if settings.covariates:
        raise KjcmError(f"{run}: a model with covariates has no ONNX export. Code with it by `kjcm predict`.")
    if settings.kind != "encoder":
        raise KjcmError(f"{run}: a {settings.kind} model has no ONNX export. Code with it by `kjcm predict`.")


def _texts(config: ExportConfig, run: Path) -> list[str]:
    """Return different texts of `input`, or of the run's own test rows, else its validation or training rows.

    Raises:
        KjcmError: there are none, or the run's files are missing.
    """
    settings = load_settings(run / "model")
    options = read_options(config, "", [config.input], settings.columns)
    if config.input is not None:
        texts = first_texts(require_file(config.input, "input file"), config.rows, settings, options)
    else:
        data, classification = recorded_data(run, run_config(run))
        try:
            cohort = cohort_of(data, load_classification(classification.name, classification.path))
        except KjcmError as error:
            raise KjcmError(f"{error} Or set input=FILE to a file of texts to check.") from None
        sides = (cohort.side(side)["text"].tolist() for side in ("test", "validation", "train"))
        texts = next(filter(None, sides), [])
    found = list(dict.fromkeys(filter(None, texts)))[: config.rows]
    if not found:
        raise KjcmError("There is no text to check the export with. Set input=FILE with the run's columns.")
    return found


def checked(run: Path, file: Path, texts: list[str]) -> dict[str, Any]:
    """Return how an ONNX file's logits differ from PyTorch's in float32, in batches of texts of many lengths.

    Returns:
        rows; logit_difference (the greatest); probability_difference (the mean for top-1 codes); equal_codes (the share of
        equal top-1 codes); margin (the greatest gap between PyTorch's two largest logits among rows whose top-1 codes
        differ, 0 without such rows).
    """
    import onnxruntime
    import torch

    coder = Coder(run / "model", BATCH, "cpu", "32-true")
    ready = coder.ready(texts)
    with torch.inference_mode():
        expected: NDArray[np.float32] = torch.cat(list(coder.forward.logits(ready.batches))).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    batches = [{name: batch[name].numpy() for name in INPUTS} for batch in ready.batches]
    found: NDArray[np.float32] = np.concatenate([session.run(None, batch)[0] for batch in batches])
    other = expected.argmax(axis=1) != found.argmax(axis=1)
    largest = np.sort(expected, axis=1)[:, -2:]
    probable, probably = (torch.from_numpy(logits).softmax(dim=1).amax(dim=1).numpy() for logits in (expected, found))
    return {
        "rows": len(texts),
        "logit_difference": float(np.abs(expected - found).max()),
        "probability_difference": float(np.abs(probable - probably).mean()),
        "equal_codes": float(1 - other.mean()),
        "margin": float((largest[:, 1] - largest[:, 0])[other].max(initial=0.0)),
    }


def _require_same(found: Mapping[str, Any], config: ExportConfig) -> None:
    """Raise KjcmError if the ONNX file differs too much from the model."""
    if config.format == "onnx-int8":
        if not found["equal_codes"] >= config.agreement:
            raise KjcmError(
                f"format=onnx-int8: only {found['equal_codes']:.2%} of {found['rows']:,} rows keep their float32 top-1 code; "
                f"agreement={config.agreement:g} requires more. Nothing is written. Use format=onnx, or lower "
                "agreement."
            )
    # top-1 codes may differ where two logits are closer than the tolerance
    elif not (found["logit_difference"] <= config.tolerance and found["margin"] <= 2 * config.tolerance):
        raise KjcmError(
            f"format=onnx: logits differ by up to {found['logit_difference']:.2g} from PyTorch's on {found['rows']:,} rows; "
            f"tolerance={config.tolerance:g} allows less. Nothing is written. Another version of onnx, onnxruntime or torch "
            "may help."
        )
