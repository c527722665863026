"""YAML without its traps: no duplicate keys, no ``1e-5`` as a string, no ``no`` as false."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml


class SpecError(ValueError):
    """A file of the specification is malformed; the message names the file and the place."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without its traps: duplicate keys, ``1e-5`` as a string, ``no`` as false."""


_STRICT_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
_STRICT_INT = re.compile(r"^[-+]?(0|[1-9]\d{0,18})$")
_STRICT_BOOL = re.compile(r"^(yes|no|on|off)$", re.IGNORECASE)


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        mark = key_node.start_mark
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise SpecError(f"line {mark.line + 1}: key {key_node.value!r} is not a string")
        if str(key) in mapping:
            raise SpecError(f"line {mark.line + 1}: duplicate key {key!r}")
        mapping[str(key)] = loader.construct_object(value_node, deep=True)
    return mapping


def _construct_scalar(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    value = loader.construct_scalar(node)
    if node.style is None:
        line = node.start_mark.line + 1
        if _STRICT_FLOAT.match(value):
            raise SpecError(
                f"line {line}: YAML reads {value} as a string; write a point and a sign: 1.0e-5"
            )
        if _STRICT_BOOL.match(value):
            raise SpecError(f"line {line}: {value!r} is ambiguous; write true, false or quote it")
    return value


def _construct_boolean(loader: _StrictLoader, node: yaml.ScalarNode) -> bool:
    if node.value not in ("true", "false"):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value!r} is ambiguous; write true, false or quote it")
    return bool(node.value == "true")


def _construct_integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    if not _STRICT_INT.match(node.value):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value[:40]!r} is no plain decimal integer")
    return int(node.value)


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value} is not JSON; write inf, -inf or nan")
    return value


def _refuse_tag(loader: _StrictLoader, node: yaml.Node) -> Any:
    line, kind = node.start_mark.line + 1, str(node.tag).rpartition(":")[2]
    raise SpecError(
        f"line {line}: {node.value!r} is a {kind} to YAML, which JSON has not; quote it"
    )


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:bool", _construct_boolean)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_integer)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
for _kind in ("binary", "merge", "omap", "pairs", "set", "timestamp"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _refuse_tag)


def read_yaml(text: str, where: str = "<text>") -> Any:
    """Strict YAML as JSON-compatible data.

    Raises:
      SpecError: a syntax error, a duplicate key, ``1e-5`` or ``no``; with ``where`` and the line.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SpecError(f"{where}: nested too deeply") from None
