"""`thin.toml`: what a thin client is told: where delegate and owner take its halves, and what they run."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, model_validator

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import (
    EXPORTED,
    THIN_FILE,
    Section,
    check_lengths,
    engine_of,
    lines,
    read_values,
    seconds,
    settings_of,
    toml,
    validated,
)
from mpcify.cluster.deployment import check_index
from mpcify.cluster.session import CLIENT
from mpcify.engines.config import EngineConfig

THIN = "thin"  # its folder among those of the parties
TOKENS = {"delegate": "token-delegate", "owner": "token-owner"}
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Url:
    """Where halves are posted. secure: over TLS. path: what stands before the routes there."""

    secure: bool
    address: Address
    path: str = ""

    @classmethod
    def parse(cls, text: Any) -> Self:
        """The place in `https://HOST[:PORT][/PATH]`, or `http://…` on this machine. Raises ValueError."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not all("!" <= each <= "~" for each in text):
            raise ValueError("it is no URL")
        parts = urlsplit(text)
        if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("it is no https://HOST[:PORT][/PATH]")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        address = Address.parse(f"{host}:{PORTS[parts.scheme] if parts.port is None else parts.port}")
        if parts.scheme == "http" and not address.own:
            raise ValueError("http leads nowhere but to this machine, as others could read what goes there: use https")
        return cls(parts.scheme == "https", address, parts.path.rstrip("/"))

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.address}{self.path}"


class Waiting(Section):
    """Seconds. connect: until a place answers. answer: until a half of an answer is there."""

    connect: float = seconds(10.0)
    answer: float = seconds(600.0)


class ThinConfig(Section):
    """A `thin.toml`. delegate, owner: where each takes its half of a request."""

    format: Literal[1]
    delegate: Annotated[Url, PlainValidator(Url.parse)]
    owner: Annotated[Url, PlainValidator(Url.parse)]
    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False)]
    batch: int = Field(ge=1)
    engine: Annotated[EngineConfig, PlainValidator(engine_of)]
    timeouts: Waiting = Waiting()

    @model_validator(mode="after")
    def fit(self) -> Self:
        """Raises ValueError for fields that do not fit each other."""
        if not self.engine.delegated:
            raise ValueError("engine: one of its parties knows the inputs, so nobody takes halves of them")
        if self.delegate == self.owner:
            raise ValueError("owner: it is the delegate's, and who has both halves knows the input")
        check_lengths(self.lengths)
        return self


@dataclass(frozen=True)
class Thin:
    """What a thin client runs from."""

    folder: Path
    config: ThinConfig

    @property
    def exported(self) -> Path:
        """What the client of the export holds, which needs it to make its inputs."""
        return self.folder / EXPORTED


def is_thin(folder: str | Path) -> bool:
    """Whether a folder is a thin client's, by its files' names alone."""
    return os.path.isfile(Path(folder) / THIN_FILE)


def read_thin(folder: str | Path) -> Thin:
    """What a thin client's folder says, checked against the index of its exported model. Raises MPC-701 and MPC-404."""
    thin = Thin(Path(folder), read_thin_config(Path(folder)))
    check_index(thin.folder, THIN_FILE, CLIENT, thin.config.batch, thin.config.lengths)
    return thin


def read_thin_config(folder: Path) -> ThinConfig:
    """The config in a thin client's folder. Raises MPC-701."""
    return validated(ThinConfig, read_values(folder / THIN_FILE), str(folder / THIN_FILE))


def thin_text(config: ThinConfig) -> str:
    """The file of a config, with a comment for whoever edits it."""
    helps = {item.name: item.metadata["help"] for item in fields(config.engine)}
    return f"""\
# What a thin client is told. Beside it: {EXPORTED}/, and a token for each of the two that take halves of its inputs.
format = 1
delegate = {toml(str(config.delegate))}  # takes one half of each input
owner = {toml(str(config.owner))}  # takes the other
lengths = {list(config.lengths)}  # padded lengths that are served, of those in {EXPORTED}/
batch = {config.batch}  # requests at once, as they were exported

[engine]  # as at all parties
{lines(settings_of(config.engine), helps)}
[timeouts]  # seconds
connect = {config.timeouts.connect}  # until a place answers
answer = {config.timeouts.answer}  # until a half of an answer is there
"""
