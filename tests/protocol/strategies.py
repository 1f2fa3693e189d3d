"""Hypothesis strategies for any message, made from its struct's types and bounds."""

from collections.abc import Callable
from datetime import UTC
from typing import Any, Final

import msgspec.inspect as types
from hypothesis import strategies as st

SIZES: Final = 4
TEXT: Final = st.characters(codec="utf-8", exclude_characters="\0")
WORD: Final = st.text(TEXT, max_size=SIZES)
NUMBER: Final = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON: Final = st.recursive(
    st.none() | st.booleans() | NUMBER | WORD,
    lambda inner: st.lists(inner, max_size=SIZES) | st.dictionaries(WORD, inner, max_size=SIZES),
    max_leaves=8,
)


def messages(*structs: type) -> st.SearchStrategy[Any]:
    """Return a strategy of valid instances of any of `structs`."""
    return st.one_of([_of(types.type_info(struct)) for struct in structs])


def _of(info: types.Type) -> st.SearchStrategy[Any]:
    """Raises KeyError for a type that no message has had so far."""
    return _BY_KIND[type(info)](info)


def _integers(info: types.IntType) -> st.SearchStrategy[int]:
    low = info.ge if info.ge is not None else -(2**63)
    high = info.le if info.le is not None else 2**63 - 1
    return st.integers(low, high)


def _floats(info: types.FloatType) -> st.SearchStrategy[float]:
    low = info.ge if info.ge is not None else info.gt
    return st.floats(
        min_value=low, max_value=info.le, exclude_min=info.gt is not None, allow_nan=False, allow_infinity=False
    )


def _texts(info: types.StrType) -> st.SearchStrategy[str]:
    if info.pattern is not None:
        return st.from_regex(info.pattern, fullmatch=True).map(lambda text: text[: info.max_length])
    size = max(info.min_length or 0, SIZES)
    return st.text(TEXT, min_size=info.min_length or 0, max_size=min(size, info.max_length or size))


def _lists(info: types.ListType | types.VarTupleType) -> st.SearchStrategy[Any]:
    return st.lists(_of(info.item_type), min_size=info.min_length or 0, max_size=SIZES)


def _structs(info: types.StructType) -> st.SearchStrategy[Any]:
    required = {field.name: _of(field.type) for field in info.fields if field.required}
    optional = {field.name: _of(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: info.cls(**values))


def _unions(info: types.UnionType) -> st.SearchStrategy[Any]:
    return st.one_of([_of(kind) for kind in info.types])


_BY_KIND: Final[dict[type[types.Type], Callable[[Any], st.SearchStrategy[Any]]]] = {
    types.AnyType: lambda _: JSON,
    types.BoolType: lambda _: st.booleans(),
    types.NoneType: lambda _: st.none(),
    types.IntType: _integers,
    types.FloatType: _floats,
    types.StrType: _texts,
    types.DateTimeType: lambda _: st.datetimes(timezones=st.just(UTC)),
    types.EnumType: lambda info: st.sampled_from(info.cls),
    types.LiteralType: lambda info: st.sampled_from(info.values),
    types.ListType: _lists,
    types.VarTupleType: lambda info: _lists(info).map(tuple),
    types.TupleType: lambda info: st.tuples(*(_of(kind) for kind in info.item_types)),
    types.DictType: lambda info: st.dictionaries(_of(info.key_type), _of(info.value_type), max_size=SIZES),
    types.StructType: _structs,
    types.UnionType: _unions,
}
