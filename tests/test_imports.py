"""Which package may import which, and how light the light ones stay."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mpcify"

# A package imports only from those in earlier rows, and from its own row.
ORDER = (
    ("errors", "progress"),
    ("numerics", "extras", "launch", "files"),
    ("data",),
    ("replacements", "recipe"),
    ("conversion",),
    ("graph",),
    ("requests",),
    ("network",),
    ("engines",),
    ("lowering",),
    ("inference",),
    ("distillation",),
    ("measure",),
    ("bench",),
    ("demo",),
    ("cli", "__main__"),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
HEAVY = {"torch", "transformers", "jax", "spu", "datasets", "accelerate", "sklearn", "matplotlib"}
WITHOUT_TORCH = (
    "errors",
    "numerics",
    "extras",
    "launch",
    "files",
    "recipe",
    "data",
    "requests",
    "network",
    "engines",
    "cli",
)


def package_of(path: Path) -> str:
    """The package, or top-level module, that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


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
    assert {package_of(path) for path in FILES} <= set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_package_imports_only_from_those_above_it(path: Path) -> None:
    own = package_of(path)
    parts = [name.split(".") for name in imports(path)]
    used = {part[1] for part in parts if part[0] == "mpcify" and len(part) > 1} - {"__version__"}
    assert {name for name in used if RANK.get(name, len(ORDER)) > RANK[own]} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_light_packages_import_heavy_ones_only_inside_functions(path: Path) -> None:
    if package_of(path) in WITHOUT_TORCH and "spu" not in path.relative_to(SOURCE).parts:
        assert {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY == set()


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


@pytest.mark.parametrize("module", ["mpcify.requests.text", "mpcify.requests.outputs", "mpcify.requests.images"])
def test_requests_need_no_torch(module: str) -> None:
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
