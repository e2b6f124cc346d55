"""The native kernels: optional, for without a compiler everything works, slower. All else is in pyproject.toml."""

import hashlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FOLDER = "src/mpcify/engines/ring/kernels"
SOURCES = b"".join(path.read_bytes() for path in sorted(Path(FOLDER).glob("*.[ch]")))
DIGEST = hashlib.sha256(SOURCES).hexdigest()[:16]  # by which `library.py` knows a library of other sources


class Build(build_ext):
    """Builds without what an older assembler does not know, rather than not at all."""

    def build_extension(self, extension: Extension) -> None:
        try:
            super().build_extension(extension)
        except CompileError:
            extension.define_macros.append(("NO_AMX", "1"))
            super().build_extension(extension)


setup(
    cmdclass={"build_ext": Build},
    ext_modules=[
        Extension(
            "mpcify.engines.ring.kernels.native",
            sources=[f"{FOLDER}/{name}.c" for name in ("products", "amx", "formulas")],
            depends=[f"{FOLDER}/{name}.h" for name in ("words", "amx")],
            define_macros=[("SOURCES", f"0x{DIGEST}ULL")],
            extra_compile_args=["-std=c11", "-O3"],
            py_limited_api=True,  # it is loaded by ctypes and uses nothing of Python's: one file serves every version
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
