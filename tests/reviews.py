"""Reviews without a browser."""

from pathlib import Path

from kjcm.ksco.classification import Classification
from kjcm.review.files import opened
from kjcm.run_folder.model_folder import load_settings


def begin_review(run: Path, coded: str | Path) -> None:
    """Begin a review of a coded file without decisions; only a review that has begun can be exported."""
    settings = load_settings(run / "model")
    opened(Path(coded), Path(f"{coded}.review.sqlite"), Classification("from_data"), settings).close()
