"""`cluster.toml`: what a party is told of its cluster, as a value and as a file that people edit.

All parties have the same `[parties]`, `[engine]`, `lengths` and `batch`; the rest is each party's own.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from mpcify.cluster.addresses import Address
from mpcify.cluster.session import CLIENT
from mpcify.engines.config import EngineConfig, config_named, registered
from mpcify.errors import MpcifyError
from mpcify.files import at_once
from mpcify.graph.index import Role

FILE, KIT, EXPORTED = "cluster.toml", "kit", "exported"
MOST = 1 << 20  # bytes
AGAIN = "correct it, or write the folder again with mpcify party init"
DAY = 24 * 3600.0
HEALTH: Mapping[Role, str] = {
    "client": "127.0.0.1:7070",
    "owner": "127.0.0.1:7071",
    "helper": "127.0.0.1:7072",
    "dealer": "127.0.0.1:7072",  # no cluster has both
}


def engine_of(values: Any) -> EngineConfig:
    """An engine and its settings; those that are left out have their defaults. Raises ValueError."""
    if isinstance(values, EngineConfig):
        return values
    if not isinstance(values, dict):
        raise ValueError("it is no table")
    given = dict(values)
    if "engine" not in given:
        raise ValueError("it names no engine")
    try:
        name = given.pop("engine")
        known = {item.name for item in fields(registered(name))}
        for unknown in given.keys() - known:
            raise ValueError(f"the engine {name} has no setting {unknown!r}")
        return config_named(name, **given)
    except MpcifyError as error:
        raise ValueError(f"{error.where}: {error.what} ({error.remedy.replace('--', '')})") from None  # no flag is here


def address_of(value: Any) -> Address:
    """An address that peers can dial. Raises ValueError."""
    found = bind_of(value)
    if found is None or found.everywhere:
        raise ValueError("peers cannot dial that; what to listen on stands under [listen]")
    return found


def bind_of(value: Any) -> Address | None:
    """An address to listen on, None for "". Raises ValueError."""
    if value is None or isinstance(value, Address):
        return value
    return None if value == "" else Address.parse(value)


def seconds(default: float) -> Any:
    """A field of seconds."""
    return Field(default, gt=0, le=DAY, allow_inf_nan=False)


class Section(BaseModel):
    """A table of the file: no field has another type than its own, and there are no others."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Timeouts(Section):
    """Seconds. connect: until all parties are there. message: until a peer that computes is taken for gone.

    idle: until a session in which nobody asks anything is closed.
    """

    connect: float = seconds(60.0)
    message: float = seconds(600.0)
    idle: float = seconds(3600.0)


class Limits(Section):
    """queue: requests that may wait while another runs."""

    queue: int = Field(default=16, ge=0, le=1 << 16)


class Listening(Section):
    """address: where to listen; None if the section does not say."""

    address: Annotated[Address | None, PlainValidator(bind_of)] = None


class ClusterConfig(Section):
    """A party's `cluster.toml`. parties: the address of each party that listens; lengths: those that are served.

    health: where health and metrics are asked for, None for nowhere. listen: if it is not where peers dial.
    """

    format: Literal[1]
    role: Role
    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False)]
    batch: int = Field(ge=1)
    parties: dict[str, Annotated[Address, PlainValidator(address_of)]]
    engine: Annotated[EngineConfig, PlainValidator(engine_of)]
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    health: Listening = Listening()
    listen: Listening = Listening()

    @model_validator(mode="after")
    def fit(self) -> Self:
        """Raises ValueError for fields that do not fit each other."""
        asked, others = self.engine.parties, sorted(self.parties)
        if not asked:
            raise ValueError(f"engine: {self.engine.name} has no parties, so nothing can be shared among them")
        if sorted(asked) != sorted((CLIENT, *others)):
            wanted = ", ".join(name for name in asked if name != CLIENT)
            raise ValueError(f"parties: it has {', '.join(others) or 'none'}, and the engine needs {wanted}")
        if self.role not in asked:
            raise ValueError(f"role: the engine's parties are {', '.join(asked)}")
        if len(set(self.parties.values())) < len(others):
            raise ValueError("parties: two have the same address")
        if self.listen.address is not None and self.role == CLIENT:
            raise ValueError(f"listen: nobody dials the {CLIENT}")
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError("lengths: they do not stand in rising order")
        return self


def read_config(path: Path) -> ClusterConfig:
    """The config in a file. Raises MPC-701, which names the field and says what is wrong with it."""
    try:
        with open(path, "rb", opener=at_once) as file:
            content = file.read(MOST + 1)
        if len(content) > MOST:
            refuse(path, "it is larger than a MiB")
        values = tomllib.loads(content.decode())
    except FileNotFoundError:
        refuse(path, "there is no such file", "name a folder that mpcify party init wrote")
    except PermissionError as problem:
        refuse(path, f"it cannot be read ({problem.strerror})", "run as the user that the folder belongs to")
    except OSError as problem:
        refuse(path, f"it cannot be read ({problem.strerror})", "write the folder again with mpcify party init")
    except UnicodeDecodeError:
        refuse(path, "it is not UTF-8")
    except tomllib.TOMLDecodeError as problem:
        refuse(path, f"it is not TOML: {problem}")
    return config_of(values, str(path))


def config_of(values: Mapping[str, Any], where: str) -> ClusterConfig:
    """The config in a table. Raises MPC-701."""
    try:
        return ClusterConfig.model_validate(values)
    except ValidationError as problem:
        raise MpcifyError(701, where, told(problem), AGAIN) from None


def told(problem: ValidationError) -> str:
    """The first thing that pydantic found, in our words: the field, and what is wrong with it."""
    error = problem.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "extra_forbidden":
            what = "there is no such field"
        case "missing":
            what = "it is missing"
        case "value_error":
            what = str(error["ctx"]["error"])
        case "dict_type" | "model_type":
            what = "it is no table"
        case "tuple_type":
            what = "it is no list"
        case "too_short":
            what = "it is empty"
        case _:
            what = error["msg"].replace("Input should", "it should", 1)
    return f"{field}: {what}" if field else what


def refuse(path: Path, what: str, remedy: str = AGAIN) -> NoReturn:
    """Raises MPC-701."""
    raise MpcifyError(701, str(path), what, remedy)


def config_text(config: ClusterConfig) -> str:
    """The file of a config, with a comment for whoever edits it."""
    addresses = {name: str(address) for name, address in config.parties.items()}
    helps = {item.name: item.metadata["help"] for item in fields(config.engine)}
    settings = {name: value for name, value in config.engine.to_json().items() if value is not None}
    return f"""\
# What {config.role} is told of its cluster. All parties have the same lengths, batch, [parties] and [engine].
format = 1
role = {toml(config.role)}
lengths = {list(config.lengths)}  # padded lengths that are served, of those in {EXPORTED}/
batch = {config.batch}  # requests at once, as they were exported

[parties]  # where peers dial each party; the {CLIENT} is never dialled
{lines(addresses, {})}
[engine]
{lines(settings, helps)}
[timeouts]  # seconds
connect = {config.timeouts.connect}  # until all parties are there
message = {config.timeouts.message}  # until a peer that says nothing in a request is taken for gone
idle = {config.timeouts.idle}  # until a session in which nobody asks anything is closed

[limits]
queue = {config.limits.queue}  # requests that may wait while another runs

[health]
address = {toml(str(config.health.address or ""))}  # where health and metrics are asked for, in the clear; "": nowhere

[listen]
address = {toml(str(config.listen.address or ""))}  # if it is not where peers dial: "0.0.0.0:7000" in a container, say
"""


def lines(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """The lines of a table."""
    said = {name: f"  # {comments[name]}" if name in comments else "" for name in values}
    return "".join(f"{name} = {toml(value)}{said[name]}\n" for name, value in values.items())


def toml(value: Any) -> str:
    """A string, number or truth value as TOML; strings are escaped as in JSON."""
    return json.dumps(value, ensure_ascii=False)
