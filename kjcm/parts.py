"""Parts of an experiment that a config names by `_target_`: check their arguments, and make them."""

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from kjcm.errors import ConfigError, first_line, some

TARGET = "_target_"
OF_HYDRA = {TARGET, "_args_", "_partial_", "_convert_", "_recursive_"}  # what hydra.utils.instantiate reads itself

Node = Mapping[str, Any]


def target_of(key: str, node: Node) -> Callable[..., Any]:
    """Import what a node names.

    Args:
        key: the node's config key, for messages.
        node: the node, with `_target_`.

    Raises:
        ConfigError: there is no `_target_`, or nothing callable of this name.
    """
    from hydra.utils import get_object

    name = node.get(TARGET)
    if not isinstance(name, str):
        raise ConfigError(
            f"{key} needs {TARGET}: the dotted name of a class or function, as {key}.{TARGET}=package.Name."
        )
    try:
        target = get_object(name)
    except Exception as error:  # the module is the user's own, and may raise anything when it is imported
        raise ConfigError(f"{key}.{TARGET}={name}: cannot be imported ({first_line(error)}).") from None
    if not callable(target):
        raise ConfigError(f"{key}.{TARGET}={name}: this is no class and no function.")
    return target  # type: ignore[no-any-return]


def require_arguments(key: str, node: Node, given: Collection[str] = ()) -> None:
    """Compare a node with its target's signature.

    Args:
        key: the node's config key.
        node: the node.
        given: names of the arguments that kjcm itself offers.

    Raises:
        ConfigError: an argument is unknown, or one that has no default is missing.
    """
    parameters = _parameters(target_of(key, node))
    names = [name for name, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    open_ended = any(one.kind == one.VAR_KEYWORD for one in parameters.values())
    for name in node:
        if name not in names and name not in OF_HYDRA and not open_ended:
            near = get_close_matches(name, names, n=1)
            meant = f" Do you mean {near[0]}?" if near else ""
            raise ConfigError(f"{key}.{name}: {node[TARGET]} has no such argument.{meant} It takes {', '.join(names)}.")
    if "_args_" in node or node.get("_partial_"):
        return
    needed = [name for name in names if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in node and name not in given]:
        raise ConfigError(f"{key}: {node[TARGET]} needs {', '.join(f'{key}.{name}=...' for name in missing)}.")


def build(key: str, node: Node, *arguments: Any, **offered: Any) -> Any:
    """Return what a node names, made with the node's arguments.

    Args:
        key: the node's config key.
        node: the node.
        arguments: positional arguments.
        offered: further arguments; the target gets those that its signature names and the node does not set.

    Raises:
        ConfigError: the target cannot be imported or refuses its arguments.
    """
    from hydra.utils import instantiate

    parameters = _parameters(target_of(key, node))
    taken = {name: value for name, value in offered.items() if name in parameters and name not in node}
    try:
        return instantiate({"_convert_": "all", **node, "_partial_": True})(*arguments, **taken)
    except ConfigError:
        raise
    except Exception as error:  # of the target's own code
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{key}: {node[TARGET]} refuses its arguments ({some(node)}): {reason}") from error


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a callable; of a class those of its constructor."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # of C code, which has no signature
        return {"args": inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                "kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}  # fmt: skip
