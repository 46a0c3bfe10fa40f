"""kjcm: free text to occupation codes, after K-JCM (Kim et al., Ann Occup Environ Med 2024;36:e19).

From Python: `kjcm.config`, `train`, `sweep`, `runs`, `report` and `load` (docs/python.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kjcm.api.coder import load
    from kjcm.api.composing import config
    from kjcm.api.experiments import report, runs, sweep, train

__all__ = ["config", "load", "report", "runs", "sweep", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("kjcm.errors")
    if name not in __all__:
        raise AttributeError(f"module 'kjcm' has no attribute {name!r}")
    home = {"config": "composing", "load": "coder"}.get(name, "experiments")
    return getattr(import_module(f"kjcm.api.{home}"), name)  # imported when it is first used


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
