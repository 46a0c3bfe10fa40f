"""`kjcm review`: serve a page on which reviewers decide a coded file's undecided rows, or write the reviewed file."""

import getpass
import logging
import re
import secrets
import threading
import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kjcm.errors import CUT, ConfigError, KjcmError
from kjcm.files import require_file
from kjcm.keys.commands.serving import ReviewConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.review.files import Further, export, identity_column, opened, read_further
from kjcm.review.names import reviewer
from kjcm.review.store import Store
from kjcm.run_folder.model_folder import Settings, finished_run, load_settings
from kjcm.search.sources import titles_of_run
from kjcm.triage.rules import DECISIONS
from kjcm.web.checks import LOOPBACK

log = logging.getLogger("kjcm")


def review(cfg: DictConfig) -> None:
    """Serve the page until it is stopped; with `export` write the reviewed file instead.

    Raises:
        KjcmError: the run or a file is not usable, or the port is taken.
        ConfigError: FastAPI is not installed.
    """
    config = typed(cfg, ReviewConfig)
    run, coded = finished_run(config.run), require_file(config.input, "coded file")
    db = Path(config.db) if config.db else coded.with_name(coded.name + ".review.sqlite")
    if strange := [name for name in config.decisions if name not in DECISIONS]:
        raise ConfigError(
            f"decisions={strange[0]}: there is no such decision; the decisions are {', '.join(DECISIONS)}."
        )
    who = _who(config.who)
    if config.export is not None and not db.exists():
        raise KjcmError(f"{db}: no such review, so there is nothing to export. Check input and db.")
    settings = load_settings(run / "model")
    named, index = titles_of_run(run, settings, config.classification.index)
    store = opened(coded, db, named, settings)
    try:
        if config.export is not None:
            found = export(coded, Path(config.export), store, named, config.overwrite)
            log.info(
                "%s rows, %s decided by reviewers, %s of them with the model's top-1 code: %s",
                f"{found['rows']:,}", f"{found['settled']:,}", f"{found['as_the_model']:,}", config.export,
            )  # fmt: skip
            return
        store.require_writable()
        _require_rows(coded, store, config.decisions)
        further = read_further(coded, config.show, config.id or identity_column(coded, settings))
        _serve(config, run / "model", coded, db, named, index, further, settings, who)
        _say_left(store, config.decisions)
    finally:
        store.close()


def _require_rows(coded: Path, store: Store, decisions: list[str]) -> None:
    counts = store.counts()
    if not any(name in counts for name in decisions):
        there = ", ".join(f"{name} {rows:,}" for name, (rows, _) in counts.items()) or "none"
        raise KjcmError(
            f"{coded}: no row has a decision to review ({', '.join(decisions)}). Its rows: {there}. decisions=[...] names others."
        )


def _serve(
    config: ReviewConfig,
    model: Path,
    coded: Path,
    db: Path,
    named: Classification,
    index: Sequence[IndexTitle],
    further: Further,
    settings: Settings,
    who: str,
) -> None:
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise ConfigError("kjcm review needs FastAPI and uvicorn: pip install 'kjcm[review]'.")
    from kjcm.review.app import make_app
    from kjcm.review.desk import Review
    from kjcm.search.by_model import scorer_of
    from kjcm.search.engine import Search
    from kjcm.web.server import listening, run, server_of

    host, port = config.host.lower(), config.port
    if host in ("0.0.0.0", "::"):
        raise ConfigError(f"host={host}: give the name or address of this machine that reviewers will type.")
    if config.token and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", config.token):
        raise ConfigError("token: use at least 8 letters, digits, - and _, or leave it out to get a random one.")
    token = None if host in LOOPBACK else config.token or secrets.token_urlsafe(24)
    search, scorer = Search(named, index, settings.level), scorer_of(model)
    app = make_app(
        Review(
            coded, db, named, search, scorer, config.decisions, who, config.language, host, token, index, further, config.once,
            settings.from_titles,
        )
    )  # fmt: skip
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else "")
    if token:
        log.warning("anyone on the network who has this address can read the answers; the connection is not encrypted")
    line = listening(host, port)
    server = server_of(app, host, port)
    log.info("review: %s (Ctrl-C ends it; each decision is saved at once in %s)", address, db)
    if config.open_browser:
        threading.Thread(target=_open_when_it_listens, args=(server, address), daemon=True).start()
    run(server, line)


def _who(given: str | None) -> str:
    """Return the default reviewer's name, '' if the system has no usable name."""
    if given is None:
        with suppress(KeyError, OSError, ValueError):  # no user name, or one that is not a reviewer's name
            return reviewer(getpass.getuser())
        return ""
    try:
        return reviewer(given)
    except ValueError as error:
        raise ConfigError(f"who={given[:CUT]!r}: {error}.") from None


def _open_when_it_listens(server: Any, address: str) -> None:
    while not server.started:
        time.sleep(0.05)
    webbrowser.open(address)


def _say_left(store: Store, decisions: list[str]) -> None:
    counts = store.counts()
    left = {name: rows - settled for name, (rows, settled) in counts.items() if name in decisions and rows > settled}
    settled = sum(done for name, (_, done) in counts.items() if name in decisions)
    log.info(
        "%s decided; left: %s",
        f"{settled:,}",
        ", ".join(f"{name} {rows:,}" for name, rows in left.items()) or "nothing",
    )
