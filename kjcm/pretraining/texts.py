"""The texts of a pretraining: answers without their codes, and lines of text files."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kjcm.errors import ConfigError, KjcmError
from kjcm.files import existing
from kjcm.keys.commands.train import PretrainConfig
from kjcm.ksco.classification import load_classification
from kjcm.read.cells import tidy
from kjcm.read.table import table_columns
from kjcm.records import read_bytes
from kjcm.survey.inputs import cached_cohort, source_of
from kjcm.survey.responses import COLUMN_KEY, has_twin_ids
from kjcm.survey.split import ranks_of, round_half_up
from kjcm.survey.texts import EMPTY, NO_TEXT, TEXT_COLUMNS, require_texts, texts_of

LEFT = {EMPTY: "row without text", NO_TEXT: "row that is not text"}
MOST_TEXT = 8 << 30  # bytes of a text file


@dataclass(frozen=True)
class Texts:
    """Different texts.

    Attributes:
        train: the texts to learn from.
        validation: texts on which only the loss is measured.
        left: reason -> texts that were left out.
        synthetic: some are of the synthetic twin.
    """

    train: list[str]
    validation: list[str]
    left: Mapping[str, int]
    synthetic: bool


def texts_to_learn(config: PretrainConfig) -> Texts:
    """Return the texts of the survey's training rows and of text files, each once.

    A survey without a code column gives all rows except those of its test file or wave. With codes it gives the training
    rows. Texts of test and validation rows are also removed from the text files, if they are worded as in training.

    Raises:
        KjcmError: a file is missing or unreadable, or there are fewer than two texts.
    """
    node, left = config.pretraining, Counter[str]()
    found: list[str] = []
    banned: set[str] = set()
    synthetic = False
    if node.survey:
        texts, banned, synthetic = _coded(config) if config.data.columns.code else _uncoded(config, left)
        found += texts
    if node.texts:
        found += lines_in(existing(node.texts), left)
    different = list(dict.fromkeys(text for text in found if text not in banned))
    left["text of a test or validation row"] = held = sum(text in banned for text in found)
    left["repeated text"] = len(found) - len(different) - held
    if len(different) < 2:
        remedy = "data.path=FILE or pretraining.texts=FOLDER" if node.survey else "pretraining.texts=FOLDER"
        raise KjcmError(f"There are {len(different)} texts to learn from. Set {remedy} with more texts.")
    ranks = ranks_of(pd.Series(different), config.data.split_seed)
    keep = max(1, round_half_up((1 - node.held_out) * len(different)))
    return Texts(
        train=[text for text, rank in zip(different, ranks, strict=True) if rank < keep],
        validation=[text for text, rank in zip(different, ranks, strict=True) if rank >= keep],
        left={reason: count for reason, count in left.items() if count},
        synthetic=synthetic,
    )


def _coded(config: PretrainConfig) -> tuple[list[str], set[str], bool]:
    """Return the texts of a cohort's training rows, those of its test and validation rows, and whether some are synthetic."""
    cohort = cached_cohort(
        config.data, load_classification(config.classification.name, config.classification.path), config.cache
    )
    held = cohort.rows["side"].isin(["validation", "test"])
    return cohort.side("train")["text"].tolist(), set(cohort.rows["text"][held]), cohort.synthetic


def _uncoded(config: PretrainConfig, left: Counter[str]) -> tuple[list[str], set[str], bool]:
    """Return a survey's texts, those of its test file or wave, and whether some are synthetic.

    Rows without text are counted in `left`.
    """
    found: dict[bool, list[str]] = {False: [], True: []}
    remedy = f"Set {COLUMN_KEY}{{role}}=NAME, or {COLUMN_KEY}{{role}}=null if there is none."
    wave = getattr(config.data, "train_wave", None)
    synthetic, source = (
        False,
        source_of(config.data, load_classification(config.classification.name, config.classification.path)),
    )
    for survey in source.surveys:
        wanted = {role: getattr(config.data.columns, role) for role in TEXT_COLUMNS}
        own = table_columns(survey.name, survey.table.columns, wanted, survey.options, remedy)
        if (ids := config.data.columns.id) in survey.table:
            synthetic |= has_twin_ids(survey.table[ids].astype(str))
        require_texts(survey.table, own, survey.name, COLUMN_KEY)
        texts = texts_of(survey.table, own, survey.name, survey.labels, config.data.wording)
        left.update(LEFT[reason] for reason in texts.reasons if reason)
        is_test = survey.test or (wave is not None and survey.wave != str(wave))
        found[is_test] += [text for text, reason in zip(texts.sentences, texts.reasons, strict=True) if not reason]
    return found[False], set(found[True]), synthetic or source.synthetic


def lines_in(path: Path, left: Counter[str]) -> Iterator[str]:
    """Yield the lines, with at least a letter, of a text file or of the .txt files in a folder and below it.

    Other lines that are not empty are counted in `left`.

    Raises:
        ConfigError: there is no such file.
        KjcmError: a file is no UTF-8.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() == ".txt")
    if not files:
        raise ConfigError(f"pretraining.texts={path}: no such file, or no .txt file in this folder. Check the path.")
    for file in files:
        try:
            text = read_bytes(file, MOST_TEXT).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise KjcmError(f"{file}: not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from None
        for line in map(tidy, text.splitlines()):
            if any(map(str.isalpha, line)):
                yield line
            elif line:
                left["line without a letter"] += 1
