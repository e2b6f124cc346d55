"""An engine's settings: what is refused, what is chosen, and what JSON keeps of them."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mpcify.engines import engine_named
from mpcify.engines.config import ENGINES, config_from_json, config_named, settings
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.spu.config import SpuConfig
from mpcify.errors import MpcifyError

HEAVY = {"numpy", "torch", "transformers", "jax", "spu"}


def test_none_is_an_engines_own_default() -> None:
    assert config_named("fixed", ring=48, fraction_bits=None) == FixedConfig(48, 14)
    assert config_named("spu", protocol=None, ring=None, force=False) == SpuConfig("aby3", 64, 18)
    assert [engine_named(name).ring for name in ("plain", "fixed", "spu")] == [None, 64, 64]


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("quantum", {}, "engine quantum: there is no such engine. Do this: use one of plain, fixed, spu"),
        ("plain", {"ring": 64}, "engine plain: it has no ring. Do this: leave --ring out"),
        ("fixed", {"protocol": "aby3"}, "engine fixed: it has no protocol. Do this: leave --protocol out"),
        ("plain", {"fraction_bits": 18}, "engine plain: it has no fraction-bits. Do this: leave --fraction-bits out"),
        ("spu", {"dealer": "moon"}, "engine spu: it has no dealer. Do this: leave --dealer out"),
        ("plain", {"unheard_of": True}, "engine plain: it has no unheard-of"),
        ("plain", {"unheard_of": None}, "engine plain: it has no unheard-of"),
        (
            "plain",
            {"device": "cuda"},
            "device cuda: the plain engine does not compute there. Do this: use --device cpu",
        ),
        ("spu", {"protocol": "aby4"}, "protocol aby4: SPU has no such protocol. Do this: use one of aby3, cheetah"),
        ("spu", {"ring": 48}, "ring 48: SPU has no ring 2^48. Do this: use --ring 64 or 32, or --engine fixed"),
        ("fixed", {"ring": 65}, "ring and fraction bits: there is no ring 2^65. Do this: use --ring 64, 48 or 32"),
        ("fixed", {"ring": 32, "fraction_bits": 18}, "ring and fraction bits: 18 fraction bits do not fit a product"),
        ("fixed", {"ring": "64"}, "ring '64': there is no such choice. Do this: use a whole number"),
        ("fixed", {"ring": True}, "ring True: there is no such choice. Do this: use a whole number"),
        ("fixed", {"fraction_bits": 18.5}, "fraction_bits 18.5: there is no such choice"),
        ("fixed", {"force": "no"}, "force 'no': there is no such choice. Do this: use True or False"),
        ("spu", {"protocol": 3}, "protocol 3: there is no such choice. Do this: use a word"),
    ],
    ids=str,
)
def test_what_an_engine_does_not_have_is_refused(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(MpcifyError) as error:
        config_named(name, **given)
    assert str(error.value).startswith(f"MPC-501 {said}")


def test_none_is_no_setting_of_another_engine() -> None:
    assert config_named("plain", ring=None, protocol=None, ahead=None) == config_named("plain")


def test_a_switch_that_another_engine_needs_is_ignored() -> None:
    assert config_named("fixed", trust_first_party=True, force=True) == FixedConfig(force=True)


def test_numbers_of_numpy_are_numbers() -> None:
    found = config_named("fixed", ring=np.int64(48), force=np.True_)
    assert found == FixedConfig(48, 14, force=True)
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


@pytest.mark.parametrize("name", ENGINES)
def test_json_gives_the_same_config(name: str) -> None:
    config = config_named(name, force=True)
    values = json.loads(json.dumps(config.to_json()))
    assert values["engine"] == name
    assert config_from_json(values) == config
    for wrong in ({**values, "more": 1}, {key: value for key, value in values.items() if key != "device"}, {}):
        with pytest.raises(MpcifyError, match="MPC-501 engine"):
            config_from_json(wrong)
    with pytest.raises(MpcifyError, match="MPC-501"):
        config_from_json({**values, "force": 1})


def test_every_setting_has_a_help_and_one_type() -> None:
    for name, (kind, item) in settings().items():
        assert item.metadata["help"].endswith("."), name
        assert kind in (str, int, float, bool), name
    own = ["ring", "ahead", "inputs", "protocol", "fraction_bits", "trust_first_party"]
    assert list(settings()) == ["device", "force", *own]


def test_what_may_not_run_is_refused_when_it_is_built_and_costs_nothing_to_name() -> None:
    config = config_named("spu", protocol="semi2k")
    with pytest.raises(MpcifyError, match="MPC-502 protocol semi2k"):
        config.build()
    assert config.for_made_up_numbers() == SpuConfig("semi2k", force=True, trust_first_party=True)


def test_registered_engines_are_imported_when_they_are_built() -> None:
    code = f"import mpcify.engines, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("values", [None, [], "spu", {"engine": ["spu"]}])
def test_json_that_is_no_config_is_refused(values: Any) -> None:
    with pytest.raises(MpcifyError, match="MPC-501"):
        config_from_json(values)
