"""The native kernels: optional, for without a compiler everything works, slower. All else is in pyproject.toml."""

from setuptools import Extension, setup

FOLDER = "src/mpcify/engines/ring/kernels"

setup(
    ext_modules=[
        Extension(
            "mpcify.engines.ring.kernels.native",
            sources=[f"{FOLDER}/{name}.c" for name in ("products", "formulas")],
            depends=[f"{FOLDER}/words.h"],
            extra_compile_args=["-std=c11", "-O3"],
            py_limited_api=True,  # it is loaded by ctypes and uses nothing of Python's: one file serves every version
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
