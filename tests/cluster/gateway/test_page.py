"""The page, in a browser: typed into, clicked, and read as a person does."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.browser import Tab, browser, chromium
from mpcify.cluster.gateway.application import application
from mpcify.cluster.gateway.page import digest
from mpcify.errors import MpcifyError
from tests.cluster.gateway.service import TOKEN, FakeModel, Service, serving

in_a_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")


def parts(body: bytes, tag: str) -> list[str]:
    """The contents of an element of a page, as it is sent."""
    return re.findall(f"<{tag}>(.*?)</{tag}>", body.decode(), re.DOTALL)


def test_nothing_in_the_page_comes_from_elsewhere_and_its_policy_lets_only_its_own_script_run() -> None:
    with serving(application(FakeModel(), TOKEN)) as service:
        status, headers, body = service.send("GET", "/")
    policy = headers["content-security-policy"]
    (style,), (script,) = parts(body, "style"), parts(body, "script")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert digest(style) in policy
    assert digest(script) in policy
    assert "unsafe" not in policy
    assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)|\b(?:src|onclick|style)=|innerHTML|eval\(", body)


def test_a_models_name_ends_no_script() -> None:
    model = FakeModel()
    object.__setattr__(model.about, "model", "</script><script>alert(1)</script>")
    with serving(application(model, TOKEN)) as service:
        _, _, body = service.send("GET", "/")
    assert len(parts(body, "script")) == 1


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    program = chromium()
    assert program is not None
    with browser(program) as found:
        yield found


def text(tab: Tab, selector: str) -> str:
    """What an element shows; "" if it is hidden."""
    found = f"document.querySelector({json.dumps(selector)})"
    return str(tab.value(f"{found}.checkVisibility() ? {found}.innerText : ''"))


def fresh(tab: Tab, service: Service, fragment: str = "") -> None:
    """Shows the page as in a new tab."""
    tab.messages.clear()
    tab.open(f"http://127.0.0.1:{service.port}/health")
    tab.value("sessionStorage.clear()")
    tab.open(f"http://127.0.0.1:{service.port}/{fragment}")


@in_a_browser
def test_a_text_gets_its_answer_its_cost_and_what_each_party_saw(tab: Tab) -> None:
    asked: list[Any] = []
    model = FakeModel(lambda items: asked.extend(items) or [[0.0, 2.0]])
    with serving(application(model, TOKEN)) as service:
        fresh(tab, service)
        assert text(tab, "#simulated") == ""
        tab.click("#text")
        tab.type("a very good film")
        tab.click("#token")
        tab.type(TOKEN)
        tab.click("#ask")
        tab.wait("!document.querySelector('#result').hidden")
        assert text(tab, "#answer") == "positive"
        assert text(tab, "#scores").split("\n") == ["positive", "88.1 %", "negative", "11.9 %"]
        assert text(tab, "#cost").split("\n") == ["time", "1.25 s", "sent by all parties", "6.0 MB", "rounds", "700"]
        rows = [row.split("\t") for row in text(tab, "#parties").split("\n")]
        assert [row[0] for row in rows] == ["client (you)", "owner", "helper"]
        assert [row[2] for row in rows] == ["3.0 MB", "2.0 MB", "1.0 MB"]
        assert all("padded to 16 tokens" in row[1] for row in rows[1:])
        assert text(tab, "#token-field") == ""  # it is known now
    assert asked == ["a very good film"]
    assert tab.messages == []  # the policy kept nothing back


@in_a_browser
@pytest.mark.parametrize("third", ["helper", "dealer"])
def test_a_dealer_saw_no_share_of_the_text_and_a_helper_did(tab: Tab, third: str) -> None:
    model = FakeModel()
    model.engine.parties = ("client", "owner", third)
    with serving(application(model, TOKEN)) as service:
        fresh(tab, service, f"#token={TOKEN}")
        tab.press("Tab")
        tab.type("a film")
        tab.click("#ask")
        tab.wait("!document.querySelector('#result').hidden")
        saw = {row.split("\t")[0]: row.split("\t")[1] for row in text(tab, "#parties").split("\n")}
    came = "That a request came, padded to 16 tokens"
    assert saw["owner"] == f"{came}, and numbers that look random"
    no_share = f"{came}; nothing of the text, not even a share"
    assert saw[third] == (no_share if third == "dealer" else saw["owner"])


@in_a_browser
def test_the_keyboard_is_enough_and_a_pair_has_two_texts(tab: Tab) -> None:
    asked: list[Any] = []
    model = FakeModel(lambda items: asked.extend(items) or [[0.0, 2.0]])
    with serving(application(model, TOKEN)) as service:
        fresh(tab, service, f"#token={TOKEN}")
        assert tab.value("location.href").endswith(f":{service.port}/")  # no history keeps it
        tab.press("Tab")
        tab.type("a film")
        tab.press("Tab")
        tab.press(" ")
        tab.value("document.querySelector('#second').focus()")
        tab.type("the film")
        tab.press("Enter", control=True)
        tab.wait("!document.querySelector('#result').hidden")
    assert asked == [("a film", "the film")]


@in_a_browser
def test_a_number_is_shown_without_bars(tab: Tab) -> None:
    with serving(application(FakeModel(lambda items: [[2.5]], "regression"), TOKEN)) as service:
        fresh(tab, service, f"#token={TOKEN}")
        tab.press("Tab")
        tab.type("a film")
        tab.click("#ask")
        tab.wait("!document.querySelector('#result').hidden")
        assert (text(tab, "#answer"), text(tab, "#scores")) == ("2.5000", "")


@in_a_browser
def test_of_many_labels_the_likeliest_are_shown(tab: Tab) -> None:
    labels = tuple(f"label {index}" for index in range(30))
    with serving(application(FakeModel(lambda items: [range(30)], labels=labels), TOKEN)) as service:
        fresh(tab, service, f"#token={TOKEN}")
        tab.press("Tab")
        tab.type("a film")
        tab.click("#ask")
        tab.wait("!document.querySelector('#result').hidden")
        shown = text(tab, "#scores").split("\n")
    assert (shown[0], shown[-1]) == ("label 29", "and 20 less likely labels")


@in_a_browser
def test_a_failure_says_what_to_do_and_a_wrong_token_is_asked_for_again(tab: Tab) -> None:
    def fail(items: list[Any]) -> Any:
        raise MpcifyError(706, "owner", "it is gone", "ask again")

    with serving(application(FakeModel(fail), TOKEN)) as service:
        fresh(tab, service, "#token=another")
        tab.press("Tab")
        tab.type("a film")
        tab.click("#ask")
        tab.wait("!document.querySelector('#failure').hidden")
        assert "MPC-709" in text(tab, "#failure")
        assert "Token" in text(tab, "#token-field")
        tab.click("#token")
        tab.type(TOKEN)
        tab.click("#ask")
        tab.wait("document.querySelector('#failure').innerText.includes('MPC-706')")
        assert "owner: it is gone." in text(tab, "#failure")
        assert "ask again." in text(tab, "#failure")
        tab.click("#forget")
        assert tab.value("sessionStorage.length") == 0


@in_a_browser
def test_while_it_computes_nobody_asks_twice(tab: Tab) -> None:
    go, asked = threading.Event(), []

    def answer(items: list[Any]) -> list[list[float]]:
        asked.extend(items)
        go.wait(10)
        return [[1.0, 0.0]]

    with serving(application(FakeModel(answer), TOKEN)) as service:
        fresh(tab, service, f"#token={TOKEN}")
        tab.press("Tab")
        tab.type("a film")
        tab.click("#ask")
        tab.wait("document.querySelector('#status').innerText.startsWith('Computing, 1 s')")
        tab.press("Enter", control=True)
        assert tab.value("document.querySelector('#ask').disabled")
        go.set()
        tab.wait("!document.querySelector('#result').hidden")
    assert asked == ["a film"]


@in_a_browser
def test_a_simulation_says_so(tab: Tab) -> None:
    with serving(application(FakeModel(), TOKEN, simulated=True)) as service:
        fresh(tab, service)
        assert "A simulation" in text(tab, "#simulated")
        assert "nothing is kept from anybody" in text(tab, "#simulated")
