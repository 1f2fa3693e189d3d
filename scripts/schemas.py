"""JSON Schema of the protocol's structs, in two readings: what the hub sends, and what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import fields

from protocol import (
    commands,
    desired,
    enrollment,
    envelope,
    events,
    frames,
    inventory,
    joining,
    operations,
    oversight,
    people,
    policies,
    requests,
    telemetry,
)

Schema = dict[str, Any]
HOISTED: Final = {"MetricValue": frames.MetricValue}
_MODULES: Final = (
    commands,
    desired,
    enrollment,
    envelope,
    events,
    frames,
    inventory,
    joining,
    operations,
    oversight,
    people,
    policies,
    requests,
    telemetry,
)


@dataclass(frozen=True, slots=True)
class Components:
    """Schemas by name, and how to refer to the one of a type."""

    schemas: Mapping[str, Schema]
    ref_prefix: str
    _taken_names: Mapping[str, str]

    def sent(self, body: type) -> Schema:
        return {"$ref": self.ref_prefix + body.__name__}

    def taken(self, body: type) -> Schema:
        return {"$ref": self.ref_prefix + self._taken_names[body.__name__]}


def components(sent: Sequence[type], taken: Sequence[type], ref_prefix: str) -> Components:
    """Return the schemas of all that `sent` and `taken` consist of, in order of their names.

    In what the hub sends, a field with a default is always present: it is required. In what the hub takes it may be
    left out. A struct that reads differently in the two ways has its name with `Input` for the second.
    """
    outgoing = {name: _always_present(name, schema) for name, schema in _schemas_of(sent).items()}
    incoming = _schemas_of(taken)
    different = {name for name in incoming if name in outgoing and outgoing[name] != incoming[name]}
    while more := {name for name in incoming if name in outgoing and different & _names_in(incoming[name])} - different:
        different |= more
    taken_names = {name: f"{name}Input" if name in different else name for name in incoming}
    schemas = outgoing | {taken_names[name]: _renamed(schema, taken_names) for name, schema in incoming.items()}
    return Components(
        {name: _with_prefix(schemas[name], ref_prefix) for name in sorted(schemas)}, ref_prefix, taken_names
    )


def _schemas_of(types: Sequence[type]) -> dict[str, Schema]:
    _, schemas = msgspec.json.schema_components(types, ref_template="{name}")
    hoisted = {
        name: msgspec.json.schema_components([kind], ref_template="{name}")[0][0] for name, kind in HOISTED.items()
    }
    plain = {name: _in_wire_names(name, _plain(schema, hoisted)) for name, schema in schemas.items()}
    used = {name for schema in plain.values() for name in _names_in(schema)}
    return plain | {name: schema for name, schema in hoisted.items() if name in used}


def _plain(node: Any, hoisted: Mapping[str, Schema]) -> Any:
    """Return `node` as draft 7 has it and without titles: tuples, objects of any shape, no neighbour of a `$ref`."""
    if isinstance(node, list):
        return [_plain(item, hoisted) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    for name, schema in hoisted.items():
        if node == schema:
            return {"$ref": name}
    named = node.get("properties", {})
    plain = {key: _plain(value, hoisted) for key, value in node.items() if key not in {"title", "properties"}}
    if named:
        plain["properties"] = {name: _plain(value, hoisted) for name, value in named.items()}
    if "prefixItems" in plain:
        plain["items"] = plain.pop("prefixItems")
        plain["additionalItems"] = False
    if plain.get("type") == "object" and not named:
        plain.setdefault("additionalProperties", True)
    return plain


def _always_present(name: str, schema: Schema) -> Schema:
    properties = schema.get("properties")
    if properties is None:
        return schema
    required = set(schema.get("required", ()))
    struct = _STRUCTS[name]
    if not struct.__struct_config__.omit_defaults:
        required |= {field.encode_name for field in fields(struct) if field.default is not UNSET}
    stripped = {
        field: {key: value for key, value in described.items() if key != "default"}
        for field, described in properties.items()
    }
    return schema | {"properties": stripped, "required": [field for field in properties if field in required]}


def _in_wire_names(name: str, schema: Schema) -> Schema:
    """Return `schema` with its description naming fields as they travel."""
    description = schema.get("description")
    if description is None or name not in _STRUCTS:
        return schema
    for field in fields(_STRUCTS[name]):
        description = description.replace(f"`{field.name}`", f"`{field.encode_name}`")
    return schema | {"description": description}


def _names_in(node: Any) -> set[str]:
    return set(_refs_in(node))


def _refs_in(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _refs_in(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _refs_in(value)


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if isinstance(node, dict):
        return {
            key: names.get(value, value) if key == "$ref" and isinstance(value, str) else _renamed(value, names)
            for key, value in node.items()
        }
    return node


def _with_prefix(node: Any, prefix: str) -> Any:
    return _renamed(node, {name: prefix + name for name in _refs_in(node)})


_STRUCTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    name: value
    for module in _MODULES
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, msgspec.Struct)
}
