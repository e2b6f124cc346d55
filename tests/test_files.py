"""Files and folders that are written whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mpcify.errors import MpcifyError
from mpcify.files import new_folder, refuse_taken, refuse_unwritable, write_whole
from tests.locked import locked

IMPORTS = "import os, signal, sys; from mpcify.files import new_folder, write_whole\n"
DIES = "sys.addaudithook(lambda event, _: event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL))\n"
LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))
"""


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def killed_at_the_rename(code: str) -> None:
    """Runs code in a process that is killed where it would rename something."""
    done = subprocess.run([sys.executable, "-c", IMPORTS + DIES + code], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    taken: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def noted(change: object, word: str) -> object:
        def call(source: object, target: object, **_: object) -> None:
            taken.append(word)
            change(source, target)  # type: ignore[operator]

        return call

    def flushed(descriptor: int) -> None:
        taken.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", noted(rename, "rename"))
    monkeypatch.setattr(os, "replace", noted(replace, "rename"))
    return taken


@pytest.mark.parametrize("content, written", [("é\n", b"\xc3\xa9\n"), (b"\xff\n", b"\xff\n"), ("", b"")])
def test_a_file_holds_what_was_written(content: str | bytes, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("an earlier and longer result")
    write_whole(path, content)
    assert path.read_bytes() == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_files_content_is_on_the_disk_before_its_name_is(tmp_path: Path, steps: list[str]) -> None:
    write_whole(tmp_path / "report.json", "{}")
    content, *name = steps
    assert content.startswith("flush .report.json")
    assert name == ["rename", f"flush {tmp_path.name}"]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    killed_at_the_rename(f"write_whole({str(path)!r}, 'new')")
    assert path.read_text() == "old"
    write_whole(path, "newer")
    assert path.read_text() == "newer"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    code = f"{IMPORTS}{LIMITED}write_whole({str(path)!r}, 'x' * 99)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MPC-109" in done.stderr
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MpcifyError, match=r"MPC-109 .*report.json: No space left on device"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wanted", [0o644, 0o600])
def test_a_file_has_its_mode_from_the_first_byte_on(
    wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(os.fstat(number).st_mode & 0o777), fsync(number)))
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o666)
    write_whole(path, "secret", wanted)
    assert mode(path) == seen[0] == wanted


def test_the_umask_still_takes_away(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "report.json", "{}")
    finally:
        os.umask(before)
    assert mode(tmp_path / "report.json") == 0o600


def test_a_file_belongs_to_whom_it_should_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, ...]] = []

    def change(_: int, *owner: int) -> None:
        assert not (tmp_path / "key").exists()
        given.append(owner)

    monkeypatch.setattr(os, "fchown", change)
    write_whole(tmp_path / "key", "secret", 0o600, owner=(12, 34))
    assert (given, (tmp_path / "key").read_text()) == ([(12, 34)], "secret")


def test_a_link_is_replaced_and_what_it_names_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    path = tmp_path / "report.json"
    path.symlink_to(tmp_path / "other")
    write_whole(path, "mine")
    assert (path.is_symlink(), path.read_text(), (tmp_path / "other").read_text()) == (False, "mine", "theirs")


@pytest.mark.parametrize("write", [partial(write_whole, content=""), refuse_unwritable])
def test_a_name_that_cannot_be_written_is_refused(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("folder", "it is a folder"), ("pipe", "no ordinary file"), ("gone/file", "is not there")):
        with pytest.raises(MpcifyError, match=f"MPC-109 .*{words}"):
            write(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda *_: False)  # an administrator may write anywhere
    with pytest.raises(MpcifyError, match=r"MPC-109 .*you may not write in it"):
        write(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe"}


def test_a_folder_appears_whole_and_on_the_disk(tmp_path: Path, steps: list[str]) -> None:
    out = tmp_path / "a" / "out"
    with new_folder(out) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "weights").write_text("7")
        assert mode(draft) == 0o700
        assert not out.exists()
    assert (out / "inner" / "weights").read_text() == "7"
    place = steps.index("rename")
    assert {"flush inner", "flush weights"} < set(steps[:place])
    assert any(step.startswith("flush .out-") for step in steps[:place])
    assert steps[place + 1 :] == ["flush a", f"flush {tmp_path.name}"]


@pytest.mark.parametrize("wanted", [0o755, 0o700])
def test_a_folder_has_its_mode(wanted: int, tmp_path: Path) -> None:
    with new_folder(tmp_path / "out", wanted):
        pass
    assert mode(tmp_path / "out") == wanted


def test_an_empty_folder_gives_way_and_a_full_one_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as draft:
        (draft / "file").touch()
    with pytest.raises(MpcifyError, match=r"MPC-109 .*something is there already"), new_folder(tmp_path / "out"):
        pass
    with pytest.raises(MpcifyError, match=r"MPC-109 .*something is there already"):
        refuse_taken(tmp_path / "out" / "file")
    refuse_taken(tmp_path / "free")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]


def test_an_empty_folder_may_be_the_one_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_folder(".") as draft:
        (draft / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "here"]


def test_an_interrupt_right_after_the_folder_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = os.mkdir

    def interrupted(path: str, mode: int = 0o777) -> None:
        made(path, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupted)
    for target in (tmp_path / "out", tmp_path / "new" / "out"):
        with pytest.raises(KeyboardInterrupt), new_folder(target):
            pass
        assert list(tmp_path.iterdir()) == []


def test_a_kill_before_the_rename_leaves_no_folder(tmp_path: Path) -> None:
    killed_at_the_rename(f"with new_folder({str(tmp_path / 'out')!r}) as draft: (draft / 'file').touch()")
    assert not (tmp_path / "out").exists()


def test_a_folder_filled_meanwhile_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "out" / "theirs"

    def fill() -> None:
        with new_folder(theirs.parent):
            theirs.parent.mkdir()
            theirs.touch()

    with pytest.raises(MpcifyError, match="something is there already"):
        fill()
    assert set(tmp_path.rglob("*")) == {theirs, theirs.parent}


def test_a_failure_removes_the_folders_it_made(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="stop"), new_folder(tmp_path / "old" / "p" / "q" / "out"):
        raise ValueError("stop")
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MpcifyError, match=r"MPC-109 .*is no folder"),
        new_folder(tmp_path / "file" / "out"),
    ):
        pass


def test_no_core_dump_is_written_of_a_process_that_forbids_it_nor_of_its_children() -> None:
    code = """
import resource, subprocess, sys
from mpcify.files import forbid_core_dumps
forbid_core_dumps()
asks = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
exec(asks)
subprocess.run([sys.executable, "-c", asks])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(0, 0)"
    assert done.stdout.count("(0, 0)") == 2


def test_a_folder_is_not_written_through_a_link_nor_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, said in (("link", "symbolic link"), ("dangling", "symbolic link"), ("file/out", "is no folder")):
        with pytest.raises(MpcifyError, match=f"MPC-109 .*{said}"):
            refuse_taken(tmp_path / name)
    refuse_taken(tmp_path / "link" / "out")


def test_a_place_where_one_may_not_look_is_named(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with locked(tmp_path / "inside"):
        with pytest.raises(MpcifyError, match=r"MPC-109 .*Permission denied.*you may write"):
            refuse_taken(tmp_path / "inside" / "new")
        with pytest.raises(MpcifyError, match=r"MPC-109 "):
            write_whole(tmp_path / "inside" / "new", "text")
        with pytest.raises(MpcifyError, match=r"MPC-109 .*Permission denied"), new_folder(tmp_path / "inside"):
            pass
