"""The codes and titles that a search reads: a run's classification and an index of job titles."""

import logging
from dataclasses import replace
from pathlib import Path

from kjcm.errors import counted
from kjcm.ksco.classification import Classification, load_classification
from kjcm.ksco.title_index import IndexTitle, read_index
from kjcm.run_folder.contents import recorded_data, run_config
from kjcm.run_folder.model_folder import Settings

log = logging.getLogger("kjcm")


def titles_of_run(run: Path, settings: Settings, index: str | None) -> tuple[Classification, list[IndexTitle]]:
    """Return a run's classification with the model's own codes and titles, and the index.

    Args:
        run: the run folder.
        settings: of its model.
        index: file of the index; None: the run's, if it has one.

    Raises:
        KjcmError: a file is not usable.
    """
    _, node = recorded_data(run, run_config(run), own=False)
    named = load_classification(node.name, _there(node.path, "only the model's own codes and titles can be chosen"))
    named = replace(named, titles={**dict.fromkeys(settings.classes, ""), **settings.titles, **named.titles})
    file = index or _there(node.index, "its job titles cannot be searched")
    if not file:
        return named, []
    titles = read_index(Path(file).expanduser(), named)
    # a classification from data accepts any code
    known = [one for one in titles if (named.at_level(one.code, settings.level) or one.code) in named.titles]
    if left := len(titles) - len(known):
        log.warning("%s: %s not searched, because the run knows no such codes", file, counted(left, "job title"))
    return named, known


def _there(path: str | None, lack: str) -> str | None:
    """Return the path of a file that a run was trained with; None, with a warning, if it is missing."""
    if path and not Path(path).expanduser().is_file():
        log.warning("%s is missing: %s", path, lack)
        return None
    return path
