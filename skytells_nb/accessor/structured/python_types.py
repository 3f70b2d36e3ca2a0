"""Schemas given as Python types: dataclasses, typed dictionaries, named tuples, and dicts of types."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
import warnings
from collections.abc import Mapping
from typing import Any

import pydantic

from skytells_nb.errors import InputError

_DEFAULT_NAME = "answer"


def as_schema(given: Any) -> Any:
    """Return a pydantic model for a dataclass, typed dictionary, named tuple or dict of types; others unchanged.

    Raises InputError for a class whose fields pydantic cannot describe.

    >>> as_schema({"name": str, "legs": int | None}).model_fields["legs"].annotation
    int | None
    """
    if isinstance(given, type) and issubclass(given, pydantic.BaseModel):
        return given
    if _has_fields(given):
        return _model_of_class(given)
    if isinstance(given, Mapping) and given and all(_is_type(part) for part in given.values()):
        return _model(_DEFAULT_NAME, {str(name): (part, ...) for name, part in given.items()})
    return given


def _has_fields(kind: Any) -> bool:
    """Whether this is a class with typed fields that is not a pydantic model."""
    if not isinstance(kind, type):
        return False
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return dataclasses.is_dataclass(kind) or _is_typed_dict(kind) or is_named_tuple


def _is_typed_dict(kind: Any) -> bool:
    # That of typing_extensions too, which pydantic prefers.
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def _is_type(part: Any) -> bool:
    """Whether a member of a dict is a type and not a part of a JSON schema."""
    if isinstance(part, Mapping):
        return bool(part) and all(_is_type(inner) for inner in part.values())
    if isinstance(part, list):
        return len(part) == 1 and _is_type(part[0])
    return isinstance(part, (type, types.UnionType, types.GenericAlias)) or typing.get_origin(part) is not None


@functools.lru_cache(maxsize=64)
def _model_of_class(kind: type) -> type[pydantic.BaseModel]:
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError) as problem:
        raise InputError(f"The types of the schema {kind.__name__} cannot be found: {problem}.") from None
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(kind):
        described = {field.name: field for field in dataclasses.fields(kind) if field.init}
        hints = {name: hint for name, hint in hints.items() if name in described}
        for name, field in described.items():
            if field.default is not dataclasses.MISSING:
                # A pydantic dataclass keeps what pydantic knows of a field in its default.
                defaults[name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                defaults[name] = pydantic.Field(default_factory=field.default_factory)
    elif _is_typed_dict(kind):
        optional = frozenset(getattr(kind, "__optional_keys__", ()))
        hints = {name: _without_requirement(hint) for name, hint in hints.items()}
        hints = {name: hint | None if name in optional else hint for name, hint in hints.items()}
        defaults = dict.fromkeys(optional)
    else:
        defaults = dict(getattr(kind, "_field_defaults", {}))
    model = _model(kind.__name__, {name: (hint, defaults.get(name, ...)) for name, hint in hints.items()})
    own = kind.__doc__ if kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(") else None
    model.__doc__ = None if own == dict.__doc__ else own
    return model


def _without_requirement(hint: Any) -> Any:
    """Return the type inside ``Required[...]`` and ``NotRequired[...]``."""
    return hint.__args__[0] if typing.get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def _model(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[pydantic.BaseModel]:
    described: dict[str, Any] = {field: (_as_type(hint, field), default) for field, (hint, default) in fields.items()}
    config = pydantic.ConfigDict(protected_namespaces=(), arbitrary_types_allowed=False)
    try:
        with warnings.catch_warnings():
            # A field may be called "copy" or "json", and its methods of the model are not used.
            warnings.simplefilter("ignore", UserWarning)
            model: type[pydantic.BaseModel] = pydantic.create_model(name, __config__=config, **described)
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as problem:
        reason = " ".join(str(problem).partition("For further information")[0].split()).rstrip(".")
        raise InputError(f"The schema {name} cannot be used: {reason}.") from None
    return model


def _as_type(hint: Any, name: str) -> Any:
    """Return the type with models in place of the classes and dicts that pydantic does not read."""
    if isinstance(hint, Mapping):
        return _model(name, {str(key): (part, ...) for key, part in hint.items()})
    if isinstance(hint, list):
        return list[_as_type(hint[0], name)]  # type: ignore[misc]
    if _has_fields(hint):
        return _model_of_class(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (None, typing.Literal) or not args:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(_as_type(args[0], name), *hint.__metadata__)]
    inner = tuple(arg if arg is ... else _as_type(arg, name) for arg in args)
    if inner == args:
        return hint
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, inner)
    return origin[inner]
