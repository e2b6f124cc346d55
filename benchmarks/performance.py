"""What docs/performance.md and the README show of speed: recipes side by side, as JSON and pictures.

    python -m benchmarks.performance [NAME ...]

An hour on two cores that do nothing else. A run whose result is there is not run again.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER, PICTURES = Path("benchmarks/results/performance"), Path("docs/pictures")
RECIPES = "exact-tanh,puma,mpcformer,2quad-freediv,softmax-freediv"
LAYER = ("--shape", "bert-base", "--layers", "1", "--ring", "64,32", "--force")
# name: the options of `mpcify bench`
RUNS: dict[str, tuple[str, ...]] = {
    "layer-128": (*LAYER, "--length", "128", "--recipes", f"naive,{RECIPES}"),
    "layer-512": (*LAYER, "--length", "512", "--recipes", RECIPES, "--repeat", "2"),
    "bert-base-128": (
        "--shape",
        "bert-base",
        "--length",
        "128",
        "--recipes",
        "exact-tanh,puma,2quad-freediv",
        "--repeat",
        "2",
    ),
    "layer-128-semi2k": (
        *("--shape", "bert-base", "--layers", "1", "--length", "128", "--recipes", "exact-tanh,puma,2quad-freediv"),
        *("--protocol", "semi2k", "--trust-first-party", "--repeat", "1"),
    ),
    "minilm-one-hot-128": (
        *("--shape", "minilm", "--length", "128", "--recipes", "exact-tanh,puma,2quad-freediv", "--repeat", "1"),
        *("--embeddings", "one-hot"),
    ),
    # softmax-freediv with four squares a score instead of six
    "layer-512-t4": (
        *("--shape", "bert-base", "--layers", "1", "--length", "512", "--repeat", "2"),
        *("--recipes", "exact-tanh,puma,benchmarks/softmax-freediv-t4.json"),
    ),
    "minilm-64": ("--shape", "minilm", "--length", "64", "--recipes", "exact-tanh,puma,2quad-freediv"),
    "minilm-64-batch-8": (
        *(
            "--shape",
            "minilm",
            "--length",
            "64",
            "--recipes",
            "exact-tanh,puma,2quad-freediv",
            "--batch",
            "8",
            "--repeat",
            "1",
        ),
    ),
}


def main() -> None:
    for folder in (FOLDER, PICTURES):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or RUNS:
        out, plot = FOLDER / f"{name}.json", PICTURES / f"{name}.png"
        if not (ROOT / out).is_file():
            words = ["bench", *RUNS[name], "--out", str(out), "--plot", str(plot)]
            print("mpcify", *words, file=sys.stderr, flush=True)
            subprocess.run([Path(sys.executable).with_name("mpcify"), *words], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
