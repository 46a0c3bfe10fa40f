"""The report's own typeface: it shows Hangul where none is installed."""

import base64
import io
from collections.abc import Iterable
from importlib.resources import files

FAMILY = "kjcm Hangul"


def font_path() -> str:
    """Return the path of the typeface (TrueType, under the SIL Open Font License; OFL.txt lies beside it)."""
    return str(files("kjcm.plot") / "fonts" / "kjcm-hangul.ttf")


def embedded(characters: Iterable[str]) -> str:
    """Return the typeface reduced to `characters` as WOFF in base64, for a page to carry; the same characters, the same bytes.

    Characters that it lacks are left out: the reader's own typefaces show them.
    """
    from fontTools import subset

    options = subset.Options(
        flavor="woff",
        layout_features=[],
        name_IDs=["*"],  # the copyright and the licence travel with it
        recalc_timestamp=False,
    )
    font = subset.load_font(font_path(), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=sorted({ord(character) for character in characters} | {ord(" ")}))
    chosen.subset(font)
    stream = io.BytesIO()
    subset.save_font(font, stream, options)
    return base64.b64encode(stream.getvalue()).decode()
