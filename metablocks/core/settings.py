"""The types that the keys of the language are declared with: settings, and choices among named settings.

A `Settings` class is one mapping of the language. A `Choice` is written `name` or `{name: {settings}}`: a kind
(`class Norm(Choice, kind="norm")`) owns a table, and each of its subclasses enters it
(`class LayerNorm(Norm, name="layer_norm")`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_SIZE = 1 << 20


class Settings(BaseModel):
    """One mapping of the language. Frozen; unknown keys refused; nothing coerced between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    label: ClassVar[str] = ""
    shorthand: ClassVar[str | None] = None
    """The key that a bare value stands for: `drop_path: 0.2` is `drop_path: {rate: 0.2}`."""
    inherits: ClassVar[bool] = False
    """Keys that are not written are taken from elsewhere, not from their defaults."""


class Choice(Settings):
    """`name` or `{name: {settings}}`."""

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    table: ClassVar[dict[str, type[Choice]]] = {}

    def __init_subclass__(cls, kind: str = "", name: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if kind:
            cls.kind, cls.table = kind, {}
        if name:
            cls.name, cls.label = name, f"{cls.kind} `{name}`"
            cls.table[name] = cls

    @classmethod
    def find(cls, name: str) -> type[Self] | None:
        """The settings class called `name`, or None."""
        return cls.table.get(name)  # type: ignore[return-value]

    @classmethod
    def names(cls) -> list[str]:
        """Every name of this kind."""
        return list(cls.table)


def fault(message: str, help: str = "", key: str = "") -> PydanticCustomError:
    """What a validator raises: one fault in the user's words; of the whole mapping it stands at `key`."""
    return PydanticCustomError("fault", "{message}", {"message": message, "help": help, "key": key})


def _pair(value: object, low: int) -> tuple[int, int]:
    items: Sequence[Any] = value if isinstance(value, list | tuple) else (value, value)
    whole = all(isinstance(item, int) and not isinstance(item, bool) for item in items)
    if len(items) != 2 or not whole:
        raise fault("must be a whole number N or a list [H, W] of two")
    if not all(low <= item <= MAX_SIZE for item in items):
        raise fault(f"must be at least {low}" if min(items) < low else f"must be at most {MAX_SIZE:,}")
    return items[0], items[1]


def _positive_pair(value: object) -> tuple[int, int]:
    return _pair(value, 1)


def _natural_pair(value: object) -> tuple[int, int]:
    return _pair(value, 0)


def _odd(value: object) -> object:
    if isinstance(value, int) and value % 2 == 0:
        raise fault("must be odd, so that the window has a middle")
    return value


def _pair_schema(low: int) -> WithJsonSchema:
    side = {"type": "integer", "minimum": low, "maximum": MAX_SIZE}
    return WithJsonSchema({"anyOf": [side, {"type": "array", "items": side, "minItems": 2, "maxItems": 2}]})


# for editors: what a validator refuses in Python is in no schema by itself
ODD_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SIZE, "not": {"multipleOf": 2}})

Pair = Annotated[tuple[int, int], BeforeValidator(_positive_pair), _pair_schema(1)]
NaturalPair = Annotated[tuple[int, int], BeforeValidator(_natural_pair), _pair_schema(0)]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
OddSize = Annotated[int, BeforeValidator(_odd), Field(ge=1, le=MAX_SIZE), ODD_SCHEMA]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
