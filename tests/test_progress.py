"""Progress: lines on stderr if nobody watches, and only on long work."""

import pytest

from mpcify import progress as module


@pytest.mark.parametrize("pause, lines", [(0.0, "examples: 1 of 2\nexamples: 2 of 2\n"), (60.0, "")])
def test_a_log_gets_a_line_now_and_then(
    pause: float, lines: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PAUSE", pause)
    with module.progress_bar("examples", 2) as advance:
        advance(1)
        advance(2)
    assert capfd.readouterr() == ("", lines)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with module.progress_bar("examples", 2) as advance:
        advance(2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "examples" in err
    assert "2/2" in err
