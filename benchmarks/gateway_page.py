"""The picture of the gateway's page: a simulation answers a text that is typed into a browser.

    python -m benchmarks.gateway_page STUDENT "TEXT" --out docs/pictures/gateway.png [--dark] [--narrow]

STUDENT is a student or an exported folder. The picture has at most 64 colours, which keeps it small.
"""

import argparse
import io
import threading
from pathlib import Path

from PIL import Image

import mpcify
from benchmarks.browser import Tab, browser, chromium
from mpcify.cluster.gateway.application import application
from mpcify.cluster.gateway.serving import listen, name_of, server_of
from mpcify.files import write_whole

TOKEN = "of-a-gateway-that-lives-for-one-picture"
WIDTH, NARROW, TALLEST = 800, 390, 2000
COLOURS = 64


def ask(tab: Tab, address: str, text: str, width: int, dark: bool) -> bytes:
    """Asks the gateway at an address as a person would; the page with its answer."""
    tab.size(width, 900, dark=dark)
    tab.open(f"{address}#token={TOKEN}")
    tab.click("#text")
    tab.type(text)
    tab.click("#ask")
    tab.wait("!document.querySelector('#result').hidden || !document.querySelector('#failure').hidden", 300)
    tab.value("document.activeElement.blur()")
    height = tab.value("Math.ceil(document.body.getBoundingClientRect().height)")
    tab.size(width, min(height, TALLEST), 2, dark=dark)
    return tab.picture()


def small(picture: bytes) -> bytes:
    """A picture of few colours, as PNG."""
    made = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


def main() -> None:
    """Reads the command line and writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway_page")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--narrow", action="store_true")
    given = parser.parse_args()
    program = chromium()
    if program is None:
        raise SystemExit("no Chromium is installed")
    with mpcify.compile(given.model, accept_embedding_leak=True) as private, listen("127.0.0.1", 0) as listening:
        app = application(private, TOKEN, simulated=True)
        server = server_of(app, app.state.turns.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with browser(program) as tab:
                width = NARROW if given.narrow else WIDTH
                write_whole(given.out, small(ask(tab, f"http://{name_of(listening)}/", given.text, width, given.dark)))
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
