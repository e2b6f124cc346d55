"""The published vectors: keys give messages and outputs to the byte, and what is corrupted is refused."""

import json
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mpcify.engines.ring.kernels import formulas
from mpcify.engines.ring.prg import KEY, Place, Prg, Purpose, derive
from mpcify.engines.ring.roles import Inbox
from tests.engines.ring.chains import PROTOCOLS
from tests.engines.ring.scene import Scene, Shifted
from tests.engines.ring.vectors import CHANGES, PATH, begun, part_of, vectors, words

FOUND = json.loads(PATH.read_text())
NAMED = {found["name"]: found for found in FOUND["protocols"]}


def scene_of(found: dict[str, Any]) -> Scene:
    """The scene of a vector: its keys, its parts and its weights."""
    chain, secrets = begun(found), {name: Shifted(bytes.fromhex(text)) for name, text in FOUND["keys"].items()}
    weights = [words(weight["W"], tuple(weight["shape"])) for weight in found["weights"]]
    return Scene(chain.steps, secrets, chain.weigh(weights, secrets))


def test_the_file_is_what_its_script_writes() -> None:
    assert json.loads(json.dumps(vectors())) == FOUND
    assert {*NAMED} == {*PROTOCOLS, "Output", "OutputInParts"}


@pytest.mark.parametrize("name", NAMED)
def test_keys_give_the_messages_and_the_outputs(name: str) -> None:
    found = NAMED[name]
    scene = scene_of(found).run()
    assert b"".join(scene.from_dealer.sent).hex() == found["dealt"]
    assert b"".join(scene.from_client.sent).hex() == found["ahead"]
    for role, said in found["said"].items():
        assert {str(index): data.hex() for index, data in scene.bytes_said(role).items()} == said
    index = len(found["steps"]) - 1
    for role, value in found["value"].items():
        own = getattr(scene, role).values.get(index)
        assert (own.tolist() if name == "Output" else part_of(own, scene.steps[index])) == value


def take(found: dict[str, Any], kind: str, step: str, data: bytes) -> None:
    """Takes a message where it is read, beside the others as they are. Raises ValueError if it is refused."""
    scene = scene_of(found)
    if step:
        wanted = scene.steps[int(step)].words(kind)
        assert wanted is not None
        formulas.unpack(data, *wanted)
        return
    given = {"dealt": bytes.fromhex(found["dealt"]), "ahead": bytes.fromhex(found["ahead"]), kind: data}
    scene.owner.dealt, scene.owner.ahead = (Inbox(iter([given[kind]]).__next__) for kind in ("dealt", "ahead"))
    for one in scene.steps:
        one.prepare(scene.owner)
    for inbox in (scene.owner.dealt, scene.owner.ahead):
        inbox.end()


@pytest.mark.parametrize("name", NAMED)
def test_what_is_corrupted_is_refused(name: str) -> None:
    found = NAMED[name]
    changes = [change for change in FOUND["refused"] if change["name"] == name]
    assert {change["change"] for change in changes} == {*CHANGES}
    for change in changes:
        kind, step = change["of"], change["step"]
        data = bytes.fromhex(found["said"][kind][step] if step else found[kind])
        take(found, kind, step, data)
        with pytest.raises(ValueError):
            take(found, kind, step, CHANGES[change["change"]](data))


def test_the_halves_of_an_input_that_no_party_knows_are_a_seed_and_the_input_less_what_is_drawn_from_it() -> None:
    found = FOUND["entered"]
    key = HKDF(SHA256(), KEY, None, b"mpcify ring 1\0\0inputs").derive(bytes.fromhex(found["client"]))
    values = np.array(found["values"])
    x0 = Prg(key).words(Place(0, 0, found["step"]), Purpose.INPUT, values.shape)
    np.testing.assert_array_equal(x0, words(found["x0"], values.shape))
    x1 = np.rint(values * found["scale"]).astype(np.int64) - x0
    assert formulas.pack(x1, found["ring"]).hex() == found["owner"]


def test_streams_are_aes_in_counter_mode() -> None:
    """The counter block: program (2 bytes), set (4), step (4), purpose (2), and 4 bytes that count, all big-endian."""
    assert [stream["purpose"] for stream in FOUND["streams"]] == [*Purpose]
    for stream in FOUND["streams"]:
        key, place = bytes.fromhex(stream["key"]), Place(stream["program"], stream["set"], stream["step"])
        sizes = ((stream["program"], 2), (stream["set"], 4), (stream["step"], 4), (stream["purpose"], 2), (0, 4))
        block = b"".join(value.to_bytes(size, "big") for value, size in sizes)
        encryptor = Cipher(algorithms.AES(key), modes.CTR(block)).encryptor()
        assert encryptor.update(bytes(24)).hex() == stream["words"]
        drawn = Prg(key).words(place, Purpose(stream["purpose"]), (3,))
        np.testing.assert_array_equal(drawn, words(stream["words"], (3,)))


def test_keys_are_derived_and_words_packed_as_the_file_says() -> None:
    for found in FOUND["derived"]:
        assert derive(bytes.fromhex(found["secret"]), found["session"], found["use"]).hex() == found["key"]
    for bits, text in FOUND["packed"].items():
        if bits != "words":
            assert formulas.pack(words(FOUND["packed"]["words"], (5,)), int(bits)).hex() == text
