"""Which package may import which, and how light the light ones stay."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mpcify"

# A package imports only from those in earlier rows, and from its own row. What every party installs stands first: it
# loads no torch, whatever it imports.
LIGHT = (
    ("errors", "progress"),
    ("numerics", "extras", "launch", "files", "jsontext", "processors"),
    ("replacements.forms", "recipe"),
    ("data",),
    ("graph",),
    ("requests",),
    ("network",),
    ("engines",),
    ("inference",),
    ("measure",),
    ("cluster",),
)
ORDER = (
    *LIGHT,
    ("replacements",),
    ("conversion",),
    ("lowering",),
    ("distillation",),
    ("bench",),
    ("demo",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
HEAVY = {"torch", "transformers", "jax", "spu", "datasets", "accelerate", "sklearn", "matplotlib"}
ALONE = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None  # importing either raises\n"


def module_of(path: Path) -> str:
    """The name of a file's module, inside mpcify."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """The package, or module with a place of its own, that a module belongs to."""
    own = next((name for name in RANK if "." in name and f"{module}.".startswith(f"{name}.")), None)
    return own or module.split(".")[0]


def is_light(path: Path) -> bool:
    """Whether a file is of what every party installs."""
    return RANK[package_of(module_of(path))] < len(LIGHT)


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports, those inside functions and under TYPE_CHECKING included unless `top_level`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def test_every_package_has_its_place_in_the_order() -> None:
    assert {package_of(module_of(path)) for path in FILES} <= set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_package_imports_only_from_those_above_it(path: Path) -> None:
    own = RANK[package_of(module_of(path))]
    used = {name.removeprefix("mpcify.") for name in imports(path) if name.startswith("mpcify.")} - {"__version__"}
    assert {name for name in used if RANK.get(package_of(name), len(ORDER)) > own} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_light_packages_import_heavy_ones_only_inside_functions(path: Path) -> None:
    light = is_light(path) or package_of(module_of(path)) == "cli"
    if light and "spu" not in path.relative_to(SOURCE).parts:
        assert {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY == set()


def test_what_every_party_installs_loads_no_torch() -> None:
    """Every module of it, and so whatever these import, in a process in which importing torch raises."""
    modules = [f"mpcify.{module_of(path)}" for path in FILES if is_light(path)]
    assert len(modules) > 40
    code = f"{ALONE}from importlib import import_module\nfor name in {modules}: import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def python(*arguments: str) -> tuple[float, str]:
    """Least seconds of a few runs of Python (other work on the machine only ever adds), and the last output."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds), done.stdout


def test_importing_mpcify_is_light_and_quick() -> None:
    code = f"import mpcify, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    seconds, heavy = python("-c", code)
    nothing, _ = python("-c", "pass")
    assert seconds - nothing < 0.3
    assert heavy.strip() == "[]"


@pytest.mark.parametrize("module", ["mpcify.requests.text", "mpcify.requests.images", "mpcify.graph.exported"])
def test_a_client_needs_no_torch(module: str) -> None:
    code = f"import {module}, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys; from mpcify.cli.main import run; run(['--help']); print(sorted({HEAVY!r} & set(sys.modules)))"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.endswith("[]\n")
    assert all(verb in text for verb in ("check", "convert", "distill", "evaluate", "infer", "export", "demo"))


def test_no_auto_class_runs_a_checkpoints_code() -> None:
    calls = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name(name), "from_pretrained" | "from_config")):
                    calls.append((path.name, name, {option.arg: option.value for option in node.keywords}))
    calls = [call for call in calls if "state_dict" not in call[2]]  # that of a class chosen by name, not by a folder
    assert {file for file, *_ in calls} == {"base.py", "processors.py"}
    for file, name, options in calls:
        match options.get("trust_remote_code"):
            case ast.Constant(False):
                continue
        raise AssertionError(f"{file}: {name}")


# The registry, a default, the package's name on the index, and help.
NAMES_AN_ENGINE = {
    "__init__.py",
    "engines/__init__.py",
    "engines/fixed/config.py",
    "extras.py",
    "distillation/card.py",
    "lowering/compile.py",
}


def test_one_engine_is_named_in_its_folder_alone() -> None:
    named = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bspu\b", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert {name for name in named if not name.startswith("engines/spu/")} == NAMES_AN_ENGINE
