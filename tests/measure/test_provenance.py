"""What a committed result says of its making: enough to make it again, and nothing of the machine's folders."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpcify.measure import provenance


def test_a_command_keeps_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    inside, outside = str(tmp_path / "data" / "dev set.tsv"), str(tmp_path.parent / "other" / "model")
    package = str(Path(sys.prefix) / "lib" / "package")
    monkeypatch.setattr(sys, "argv", ["/opt/bin/mpcify", "evaluate", outside, "--data", inside, "--base", package])
    environment = Path(sys.prefix).name
    assert provenance.command() == f"mpcify evaluate model --data 'data/dev set.tsv' --base {environment}/lib/package"
    monkeypatch.setattr(sys, "argv", ["mpcify", "distill", "student", "--lr", "1e-4"])
    assert provenance.command() == "mpcify distill student --lr 1e-4"


def test_no_way_of_writing_a_path_keeps_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret" / "dev.tsv"
    monkeypatch.chdir(tmp_path)
    assert provenance.portable(f"--data={secret}") == "--data=dev.tsv"
    assert provenance.portable(f"{tmp_path}/../secret/dev.tsv") == "dev.tsv"
    monkeypatch.chdir("/")
    assert provenance.portable(str(secret)) == "dev.tsv"
    for prefix in ("/usr", str(tmp_path.parent / "conda")):  # no environment of its own: its parent says nothing
        monkeypatch.setattr(sys, "prefix", prefix)
        monkeypatch.setattr(sys, "base_prefix", prefix)
        assert provenance.portable(str(secret)) == "dev.tsv"


@pytest.mark.parametrize("words", [["-m", "folder.script"], ["folder/script.py"]])
def test_a_scripts_command_names_it_as_it_was_started(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "script.py").write_text(
        "from mpcify.measure.provenance import command\nprint(command())\n", encoding="utf-8"
    )
    done = subprocess.run([sys.executable, *words, "7"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == " ".join(["python", *words, "7"])
