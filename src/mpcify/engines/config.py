"""What runs: an engine's name and all its settings as one frozen value, and the registry of the engines that there are.

A setting is a field, with its help as metadata: the command line's flags, what they say and what they refuse follow
from the fields of the registered configs. Their JSON is what reports and kept answers hold.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args, get_type_hints

from mpcify.errors import MpcifyError

if TYPE_CHECKING:
    from mpcify.engines.engine import Engine
    from mpcify.engines.plain import PlainEngine
    from mpcify.engines.rules import Rules

# type of a setting: what a user may give for it
WORDS: Mapping[type, str] = {str: "a word", int: "a whole number", float: "a number", bool: "True or False"}


def setting(default: Any, help: str, metavar: str | None = None) -> Any:
    """A field of a config. help, metavar: of its flag. A default of None is chosen by the config itself."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class Speed:
    """How fast an engine computes on this machine. found: what it has to compute with, for people. slow: why that is
    slow, and what to do about it; None if it is not.
    """

    found: str
    slow: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class EngineConfig(ABC):
    """An engine's settings; every engine has `device` and `force`. Raises MPC-501 for a value that it does not have.

    name: what users call the engine. devices: those that it computes on. parties: who shares values, () if nobody does.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    device: str = setting("cpu", "Where the engine computes: cpu (default); ring: also cuda.")
    force: bool = setting(False, "Run though declared ranges overflow the ring.")

    def __post_init__(self) -> None:
        if self.device not in self.devices:
            what = f"the {self.name} engine does not compute there"
            raise MpcifyError(501, f"device {self.device}", what, f"use --device {' or '.join(self.devices)}")

    @property
    def parties(self) -> tuple[str, ...]:
        return ()

    @property
    def delegated(self) -> bool:
        """Whether no party knows a request's inputs: thin clients send them in two halves (see `Program.sharing`)."""
        return False

    def rules(self) -> "Rules | None":
        """What the engine can, and what that costs; None if nothing can overflow and there are no formulas."""
        return None

    def speed(self) -> Speed | None:
        """How fast it computes on this machine; None if no machine is slower than its processor."""
        return None

    @abstractmethod
    def build(self) -> "Engine":
        """The engine. Raises MPC-502 for settings that would give weights away, MPC-504 if a package is missing."""

    @abstractmethod
    def for_made_up_numbers(self) -> Self:
        """The same settings for a run whose numbers are nobody's: it needs neither proof nor trust."""

    def to_json(self) -> dict[str, Any]:
        """{"engine": its name} and every field."""
        return {"engine": self.name, **asdict(self)}

    def shared(self) -> dict[str, Any]:
        """What must be equal at every party, as `to_json`: not where one computes, and not what one permits."""
        own = {"device"} | {item.name for item in fields(self) if kind_of(type(self), item) is bool}
        return {name: value for name, value in self.to_json().items() if name not in own}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The config in a JSON object that `to_json` made. Raises MPC-501 for any other."""
        given = dict(values)
        if given.pop("engine", None) != cls.name or given.keys() != {item.name for item in fields(cls)}:
            what = "its settings are not those of this version"
            raise MpcifyError(501, f"engine {cls.name}", what, "make them again with this version of mpcify")
        return cls(**{item.name: typed(cls, item, given[item.name]) for item in fields(cls)})


@dataclass(frozen=True)
class PlainConfig(EngineConfig):
    """Floats: no protocol and no ring, so there is nothing to choose."""

    name = "plain"

    def build(self) -> "PlainEngine":
        from mpcify.engines.plain import PlainEngine

        return PlainEngine(self)

    def for_made_up_numbers(self) -> Self:
        return self


ENGINES: dict[str, type[EngineConfig]] = {}


def register(config: type[EngineConfig]) -> type[EngineConfig]:
    """Adds an engine. What builds it is imported when it is built."""
    ENGINES[config.name] = config
    return config


def registered(name: str) -> type[EngineConfig]:
    """The config of an engine. Raises MPC-501 for a name that no engine has."""
    if not isinstance(name, str) or name not in ENGINES:
        raise MpcifyError(501, f"engine {name}", "there is no such engine", f"use one of {', '.join(ENGINES)}")
    return ENGINES[name]


def config_named(name: str, **given: Any) -> EngineConfig:
    """The config of an engine, None standing for its own default, and for nothing in a setting of another engine.

    A switch permits something: an engine that would not refuse it has no use for it, and ignores it. Raises MPC-501 for
    an engine that there is not, a setting that it does not have, and a value of another type or that it does not have.
    """
    config = registered(name)
    known = {item.name: item for item in fields(config)}
    chosen = {}
    for key, value in given.items():
        if key in known:
            if value is not None:
                chosen[key] = typed(config, known[key], value)
        elif key not in (settings() if value is None else switches()):
            flag = key.replace("_", "-")
            raise MpcifyError(501, f"engine {name}", f"it has no {flag}", f"leave --{flag} out")
    return config(**chosen)


def config_from_json(values: Mapping[str, Any]) -> EngineConfig:
    """The config in a JSON object that `to_json` made. Raises MPC-501 for any other."""
    name = values.get("engine") if isinstance(values, Mapping) else None
    return registered(str(name)).from_json(values)


def settings() -> dict[str, tuple[type, Field]]:
    """Every setting of the registered engines by its name: its type and its field, common ones first.

    Of two engines that share a setting, the one that was registered last describes it.
    """
    found = {item.name: (kind_of(EngineConfig, item), item) for item in fields(EngineConfig)}
    for config in reversed(ENGINES.values()):
        for item in fields(config):
            found.setdefault(item.name, (kind_of(config, item), item))
    return found


def switches() -> frozenset[str]:
    """The settings that are True or False."""
    return frozenset(name for name, (kind, _) in settings().items() if kind is bool)


@cache
def kind_of(config: type, item: Field) -> type:
    """The type of a setting's values, None left out."""
    hint = get_type_hints(config)[item.name]
    (kind,) = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    return kind  # type: ignore[no-any-return]


def typed(config: type[EngineConfig], item: Field, value: Any) -> Any:
    """A value of a setting as its own type; numpy's numbers count. Raises MPC-501 for one of another type."""
    kind = kind_of(config, item)
    plain = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
    if type(plain) is kind or (kind is float and type(plain) is int):
        return plain
    raise MpcifyError(501, f"{item.name} {value!r}"[:80], "there is no such choice", f"use {WORDS[kind]}")
