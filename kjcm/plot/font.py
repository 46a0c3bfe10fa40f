"""The report's own typeface, which shows Hangul without an installed Korean font."""

import base64
import io
import logging
from collections.abc import Iterable
from importlib.resources import files

FAMILY = "kjcm Hangul"


def font_path() -> str:
    """Return the path of the typeface (TrueType, SIL Open Font License; see OFL.txt next to the file)."""
    return str(files("kjcm.plot") / "fonts" / "kjcm-hangul.ttf")


def embedded(characters: Iterable[str]) -> str:
    """Return the typeface reduced to `characters`, as WOFF in base64; equal characters give equal bytes.

    The reader's own typefaces show characters that this typeface lacks.
    """
    from fontTools import subset

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of a font
    options = subset.Options(
        flavor="woff",
        layout_features=[],
        name_IDs=["*"],  # keeps copyright and licence
        recalc_timestamp=False,
    )
    font = subset.load_font(font_path(), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=sorted({ord(character) for character in characters} | {ord(" ")}))
    chosen.subset(font)
    stream = io.BytesIO()
    subset.save_font(font, stream, options)
    return base64.b64encode(stream.getvalue()).decode()
