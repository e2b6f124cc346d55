"""`cluster.toml`: what a party is told of its cluster, as a value and as a file that people edit.

All parties have the same `[parties]`, `[engine]`, `lengths` and `batch`; the rest is each party's own.
"""

import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from mpcify.cluster.addresses import Address
from mpcify.cluster.session import CLIENT, OWNER
from mpcify.engines.config import EngineConfig, config_named, registered
from mpcify.errors import MpcifyError
from mpcify.files import at_once
from mpcify.graph.index import Role

S = TypeVar("S", bound=BaseModel)

FILE, KIT, EXPORTED = "cluster.toml", "kit", "exported"
THIN_FILE = "thin.toml"  # of a client that is no party
MOST = 1 << 20  # bytes
AGAIN = "correct it, or write the folder again with mpcify party init"
DAY = 24 * 3600.0
DESK = "127.0.0.1:8001"
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


def own_address_of(value: Any) -> Address | None:
    """An address that only this machine reaches, None for "". Raises ValueError."""
    found = bind_of(value)
    if found is not None and not found.own:
        raise ValueError("others than this machine would reach it: name 127.0.0.1, behind a proxy that speaks TLS")
    return found


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


class Desk(Section):
    """address: where the owner takes its halves of thin clients' requests; None for nowhere."""

    address: Annotated[Address | None, PlainValidator(own_address_of)] = None


class ClusterConfig(Section):
    """A party's `cluster.toml`. parties: the address of each party that listens; lengths: those that are served.

    health: where health and metrics are asked for, None for nowhere. listen: if it is not where peers dial. desk: the
    owner's, if inputs are delegated.
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
    desk: Desk = Desk()

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
        if (self.desk.address is not None) != (self.engine.delegated and self.role == OWNER):
            what = "there is none, and thin clients need it" if self.desk.address is None else "nobody comes there"
            raise ValueError(f"desk: {what}: an {OWNER} has it, if inputs are delegated")
        self.check_own()
        check_lengths(self.lengths)
        return self

    def check_own(self) -> None:
        """Raises ValueError if two of the party's own addresses are one."""
        served = {"listen": self.listen.address} if self.listen.address else {"parties": self.parties.get(self.role)}
        own = {**served, "health": self.health.address, "desk": self.desk.address}
        for (first, one), (second, other) in itertools.combinations(own.items(), 2):
            if one and other and one.meets(other):
                raise ValueError(f"{second}: {other} is under [{first}] too, and each needs a port of its own")


def check_lengths(lengths: Sequence[int]) -> None:
    """Raises ValueError for lengths that are not each larger than the one before."""
    if list(lengths) != sorted(set(lengths)):
        raise ValueError("lengths: they do not stand in rising order")


def read_config(path: Path) -> ClusterConfig:
    """The config in a file. Raises MPC-701, which names the field and says what is wrong with it."""
    return config_of(read_values(path), str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises MPC-701."""
    try:
        with open(path, "rb", opener=at_once) as file:
            content = file.read(MOST + 1)
        if len(content) > MOST:
            refuse(path, "it is larger than a MiB")
        return tomllib.loads(content.decode())
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


def config_of(values: Mapping[str, Any], where: str) -> ClusterConfig:
    """The config in a table. Raises MPC-701."""
    return validated(ClusterConfig, values, where)


def validated(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """A table as what a kind of file holds. Raises MPC-701."""
    try:
        return kind.model_validate(values)
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
    desk = f"\n[desk]\naddress = {toml(str(config.desk.address))}  # where halves of thin clients come in\n"
    return f"""\
# What {config.role} is told of its cluster. All parties have the same lengths, batch, [parties] and [engine].
format = 1
role = {toml(config.role)}
lengths = {list(config.lengths)}  # padded lengths that are served, of those in {EXPORTED}/
batch = {config.batch}  # requests at once, as they were exported

[parties]  # where peers dial each party; the {CLIENT} is never dialled
{lines(addresses, {})}
[engine]
{lines(settings_of(config.engine), helps)}
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
{desk if config.desk.address else ""}"""


def settings_of(engine: EngineConfig) -> dict[str, Any]:
    """An engine and its settings as they stand in a file."""
    return {name: value for name, value in engine.to_json().items() if value is not None}


def lines(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """The lines of a table."""
    said = {name: f"  # {comments[name]}" if name in comments else "" for name in values}
    return "".join(f"{name} = {toml(value)}{said[name]}\n" for name, value in values.items())


def toml(value: Any) -> str:
    """A string, number or truth value as TOML; strings are escaped as in JSON."""
    return json.dumps(value, ensure_ascii=False)
