"""`kjcm classification import`: the statistics office's workbooks to the tables that kjcm reads."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from kjcm.errors import ConfigError, KjcmError, counted
from kjcm.files import atomic, require_no_input
from kjcm.keys.commands.recoding import ClassificationImportConfig
from kjcm.keys.composition import typed
from kjcm.ksco.workbook import read_workbook
from kjcm.read.options import ReadOptions

log = logging.getLogger("kjcm")


def import_workbook(cfg: DictConfig) -> None:
    """Write the classification or correspondence in `input` to `out`, and log what was found.

    Raises:
        ConfigError: `out` is no TSV file or is `input`, or `columns` names a column twice or more than two.
        KjcmError: the file is not usable, or `out` exists.
    """
    config = typed(cfg, ClassificationImportConfig)
    target = Path(config.out).expanduser()
    if target.suffix.lower() != ".tsv":
        raise ConfigError(f"out={config.out}: give the name of a .tsv file.")
    if len(config.columns) > 2 or len({*config.columns}) < len(config.columns):
        raise ConfigError(f"columns={config.columns}: name two different columns, as [FROM,TO], or one, or none.")
    require_no_input(target, [config.input], "out")
    if target.exists() and not config.overwrite:
        raise KjcmError(f"{target} exists. Choose another output, or add overwrite=true.")
    imported = read_workbook(config.input, ReadOptions(config.encoding, config.sheet, keys=""), config.columns)
    with atomic(target, config.overwrite) as temporary:
        imported.table.to_csv(temporary, sep="\t", index=False, encoding="utf-8", lineterminator="\n")
    for line in imported.report:
        log.info("%s", line)
    log.info("%s of %s: %s", imported.kind, counted(len(imported.table), "row"), target)
