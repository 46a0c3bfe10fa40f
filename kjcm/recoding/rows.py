"""Read a file's codes, and look up the codes that may replace them."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.keys.commands.recoding import RecodeConfig
from kjcm.ksco.classification import load_classification
from kjcm.ksco.correspondence import Correspondence, Weights, plain_code
from kjcm.read.cells import code_texts, tidy
from kjcm.recoding.decisions import Row


def plain_name(name: str) -> str:
    """Return a classification's name as kjcm writes it: ksco8 for KSCO-8."""
    return name.lower().replace("-", "").replace("_", "")


def is_ksco(name: str) -> bool:
    """Return whether a classification is one of KSCO's."""
    return plain_name(name).startswith("ksco")


def rows_of(
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    correspondence: Correspondence,
    config: RecodeConfig,
    source: Path,
) -> list[Row]:
    """Return the rows with their candidates, and why some have none.

    Raises:
        ConfigError: the correspondence has codes shorter than `level`.
        KjcmError: codes have lost leading zeros, or a given new code is not in the correspondence.
    """
    known = load_classification("ksco7") if plain_name(config.from_) == "ksco7" else None
    codes = [tidy(code) for code in code_texts(frame[columns["code"]])]
    plain = {code: plain_code(code, ksco=is_ksco(config.from_)) for code in set(codes)}
    _require_zeros(plain.values(), correspondence, f"{source}, column {columns['code']!r}")
    given = [""] * len(frame)
    if "recoded" in columns:
        new_codes = {code[: config.level] for code in correspondence.new_codes if len(code) >= (config.level or 0)}
        cells = code_texts(frame[columns["recoded"]])
        given = [plain_code(cell, ksco=is_ksco(config.to))[: config.level] for cell in cells]
        if wrong := sum(code != "" and code not in new_codes for code in given):
            raise KjcmError(
                f"{source}, column {columns['recoded']!r}: {counted(wrong, 'row')} without a code of the column 'to' in "
                f"{correspondence.name}. Correct these cells, or empty them."
            )
    candidates: dict[str, Weights] = {}
    reasons: dict[str, str] = {}
    for code, usual in plain.items():
        unknown = known is not None and known.resolve(code) is None
        partners = None if unknown or not code else correspondence.partners(usual, config.level)
        candidates[code] = partners or {}
        if not code:
            reasons[code] = "empty code"
        elif unknown:
            reasons[code] = "no code of KSCO-7"
        elif partners is None:
            reasons[code] = "code not in the correspondence"
        else:
            reasons[code] = "" if partners else "no partner in the next correspondence"
    if config.level is not None and (
        coarse := sorted({new for found in candidates.values() for new in found if len(new) < config.level})
    ):
        raise ConfigError(
            f"level={config.level}: the correspondence has the shorter codes {some(coarse)}. Lower the level, or leave it out."
        )
    return [Row(code, candidates[code], own, reasons[code]) for code, own in zip(codes, given, strict=True)]


def _require_zeros(codes: Collection[str], correspondence: Correspondence, place: str) -> None:
    """Raise KjcmError if codes lost leading zeros: no code has one, and a code is in the correspondence only with zeros."""
    short = sorted(code for code in codes if code in correspondence.without_zeros)
    if short and not any(code.startswith("0") for code in codes):
        raise KjcmError(
            f"{place}: {some(short)} lost leading zeros: the correspondence has {correspondence.without_zeros[short[0]]!r}. "
            "Store codes as text. Leave coarser codes out."
        )
