"""`kjcm serve`: load a finished run's model once, and answer requests until SIGTERM or Ctrl-C."""

import logging
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kjcm.api.coder import OccupationCoder, load
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError
from kjcm.files import digest
from kjcm.keys.commands.serving import ServeConfig
from kjcm.keys.composition import typed
from kjcm.run_folder.model_folder import finished_run
from kjcm.web.checks import LOOPBACK

TOKEN = "KJCM_TOKEN"  # environment variable
NEEDED = ("fastapi", "uvicorn", "prometheus_client")
KEEP_ALIVE = 75  # seconds: longer than proxies keep an unused connection, so that they close it, not the server
GRACE = 5  # seconds for clients to read their answers, when the server stops

log = logging.getLogger("kjcm")


def serve(cfg: DictConfig) -> None:
    """Serve a run's model until the process is told to stop; requests that have begun are answered first.

    Raises:
        KjcmError: the run is not usable, or the port is taken.
        ConfigError: a package is not installed, or the address needs a token.
    """
    config = typed(cfg, ServeConfig)
    if not all(map(find_spec, NEEDED)):
        raise ConfigError("kjcm serve needs FastAPI, uvicorn and prometheus-client: pip install 'kjcm[serve]'.")
    require_device("accelerator", config.accelerator)
    host, port, token = config.host.lower(), config.port, _token(config)
    folder = finished_run(config.run) / "model"
    from kjcm.serving.app import Service, make_app
    from kjcm.serving.connection import ClientConnection
    from kjcm.web.server import listening, run, server_of

    listening(host, port).close()  # a taken port shows before the model is loaded
    coder = _coder(folder, config)
    about: dict[str, Any] = {
        "model": digest(folder), "precision": coder.precision, "synthetic": coder.synthetic, "classes": len(coder.classes),
        "promises": coder.promises, "from_titles": coder.from_titles,
    }  # fmt: skip
    hosts = None if token or config.without_token else LOOPBACK
    top_k = min(config.top_k, len(coder.classes))
    service = Service(coder, about, top_k, config.batching, config.limits, token, hosts)
    service.warm_up()
    app, batcher = make_app(service)
    options = {"timeout_keep_alive": KEEP_ALIVE, "timeout_graceful_shutdown": int(config.limits.seconds) + GRACE}
    server = server_of(app, host, port, ClientConnection, **options)
    line = listening(host, port)
    log.info("serving %s: http://%s:%d/ (Ctrl-C ends it)", config.run, f"[{host}]" if ":" in host else host, port)
    if host not in LOOPBACK:
        log.warning("the connection is not encrypted: put a proxy with TLS in front, or use a trusted network")
    try:
        run(server, line)
    finally:
        batcher.close()
    log.info("stopped")


def _coder(folder: Path, config: ServeConfig) -> OccupationCoder:
    """Load the model; keys that the rules do not read are left out, because `load` refuses them."""
    triage, columns = dict(vars(config.triage)), dict(vars(config.columns))
    if config.triage.target_error is not None:
        del triage["threshold"]
    if config.triage.managers != "column":
        del columns["manages"]
    return load(
        folder, triage=triage, columns=columns, unseen_levels=config.unseen_levels, accelerator=config.accelerator,
        precision=config.precision, batch_size=config.batch_size, compile=config.compile,
    )  # fmt: skip


def _token(config: ServeConfig) -> str | None:
    """Return the token that requests need, None for none.

    Raises:
        ConfigError: it is too short, or an address that other machines reach has none.
    """
    token = config.token if config.token is not None else os.environ.get(TOKEN)
    if config.without_token:
        if token:
            raise ConfigError(f"without_token=true: there is a token too. Remove it, or the variable {TOKEN}.")
        return None
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/-]{8,}=*", token):
        raise ConfigError(f"token (or {TOKEN}): use at least 8 letters, digits, - . _ ~ + and /.")
    if token is None and config.host.lower() not in LOOPBACK:
        raise ConfigError(
            f"host={config.host}: other machines reach this address. Set a token with {TOKEN}, or add without_token=true."
        )
    return token
