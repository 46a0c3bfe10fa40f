"""Read and write the record next to a coded file, from which `kjcm review` knows its text columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kjcm.errors import KjcmError
from kjcm.files import require_no_input, write_json
from kjcm.records import read_json
from kjcm.survey.texts import TEXT_COLUMNS

SHAPE = {"classes_hash": str, "made_by?": {"columns?": {str: (str, None)}}}


@dataclass(frozen=True)
class Note:
    """What the record of a coded file says.

    Attributes:
        classes: digest of the model's classes.
        columns: role -> name of the text columns.
    """

    classes: str
    columns: dict[str, str]


def note_of(coded: Path) -> Path:
    """Return the path of a coded file's record."""
    return coded.with_name(f"{coded.name}.json")


def read_note(coded: Path) -> Note | None:
    """Return a coded file's record, None without one."""
    file = note_of(coded)
    if not file.is_file():
        return None
    told = read_json(file, SHAPE)
    columns = told.get("made_by", {}).get("columns", {})
    return Note(told["classes_hash"], {role: name for role in TEXT_COLUMNS if (name := columns.get(role))})


def write_note(coded: Path, note: Note) -> None:
    """Write the record of a file made from a coded file: only what `kjcm review` reads."""
    write_json(note_of(coded), {"classes_hash": note.classes, "made_by": {"columns": note.columns}})


def require_free(files: Sequence[Path], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise ConfigError if one of the files is an input, KjcmError if one exists and may not be replaced."""
    inputs = [*inputs]
    for file in files:
        require_no_input(file, inputs)
    if not overwrite and (there := [file for file in files if file.exists()]):
        raise KjcmError(f"{there[0]} exists. Choose another output folder, or add overwrite=true.")
