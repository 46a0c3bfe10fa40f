"""`kjcm search`: find the codes of a job title, and show them as a table, or as TSV where the output is no terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kjcm.errors import KjcmError
from kjcm.keys.commands.serving import SearchConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import load_classification
from kjcm.ksco.title_index import read_index
from kjcm.run_folder.model_folder import finished_run, load_settings

if TYPE_CHECKING:
    from kjcm.search.engine import Hit

COLUMNS = ("code", "title", "why", "matched", "matched_code", "source", "probability")


def search(cfg: DictConfig) -> None:
    """Print the groups that `query` finds, the best first.

    Raises:
        KjcmError: a file or the run is not usable, or nothing is found.
    """
    from kjcm.search.engine import Search

    config, scorer = typed(cfg, SearchConfig), None
    if config.run is None:
        named = load_classification(config.classification.name, config.classification.path)
        file = config.classification.index
        index, level = read_index(file, named) if file else [], config.level
    else:
        from kjcm.search.by_model import scorer_of
        from kjcm.search.sources import titles_of_run

        run = finished_run(config.run)
        settings = load_settings(run / "model")
        named, index = titles_of_run(run, settings, config.classification.index)
        scorer, level = scorer_of(run / "model"), config.level or settings.level
    if not named.titles and not index:
        raise KjcmError(
            "The classification has no titles. Name a file with classification.path or classification.index."
        )
    found = Search(named, index, level)(config.query, config.most, scorer)
    if not found.hits:
        raise KjcmError("query: nothing was found. Try a shorter part of the title, or the first digits of its code.")
    titles = [named.title(hit.code) for hit in found.hits]
    if sys.stdout.isatty():
        _show(found.hits, titles, found.total)
    else:
        _write(found.hits, titles)


def _show(hits: "Sequence[Hit]", titles: Sequence[str], count: int) -> None:
    """Print the hits as a table, with what matches in bold."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("code", "title", "why", "matched", box=None, pad_edge=False)
    for hit, title in zip(hits, titles, strict=True):
        matched = Text.assemble(*((part.text, "bold" if part.matches else "") for part in hit.parts))
        if hit.entry is not None and hit.entry.code != hit.code:
            matched.append(f" {hit.entry.code}", "dim")
        same = hit.entry is not None and hit.entry.title == title
        why = hit.why.label if hit.probability is None else f"{hit.why.label} {hit.probability:.2f}"
        table.add_row(hit.code, matched if same else title, why, "" if same else matched)
    Console(highlight=False).print(table)
    if count > len(hits):
        print(f"{count} groups found; most={count} shows them all")


def _write(hits: "Sequence[Hit]", titles: Sequence[str]) -> None:
    """Print the hits as TSV."""
    print("\t".join(COLUMNS))
    for hit, title in zip(hits, titles, strict=True):
        entry = (hit.entry.title, hit.entry.code, hit.entry.source) if hit.entry else ("", "", "")
        probability = "" if hit.probability is None else f"{hit.probability:.4f}"
        print("\t".join((hit.code, title, hit.why.label, *entry, probability)))
