"""The hub that the tests talk to, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.hub_server import Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in of the hub; the library's cache is empty, and its token is the user's."""
    made = Hub()
    made.start()
    constants = "huggingface_hub.constants."  # read from the environment when the library is imported
    monkeypatch.setattr(f"{constants}ENDPOINT", made.address)
    monkeypatch.setattr(
        f"{constants}HUGGINGFACE_CO_URL_TEMPLATE", made.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(f"{constants}HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(f"{constants}HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(f"{constants}HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", made.token)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its retries
    yield made
    made.stop()
