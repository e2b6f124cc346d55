"""Does padding change an answer? The student of SST-2 at lengths 32, 64 and 128, in batches and one by one.

    python -m benchmarks.accuracy.padding --data FOLDER

Every dev sentence that fits a length runs at it, in plain and in integers mod 2^64.
"""

import json
import sys
from itertools import combinations

import numpy as np

from benchmarks.accuracy.tasks import options, result
from mpcify.data.files import read_examples
from mpcify.files import write_whole
from mpcify.lowering.compile import compile
from mpcify.measure.provenance import provenance

LENGTHS = (32, 64, 128)
SETTINGS = (("plain", 16, LENGTHS, None), ("plain", 1, (*LENGTHS, None), None), ("fixed", 16, LENGTHS, 200))


def main() -> None:
    given = options(__doc__)
    path = result("sst2", given.student, "padding")
    task = next((task for task in given.tasks if task.name == "sst2"), None)
    if task is None or path.is_file():
        return
    texts = read_examples(given.file(task, "dev")).texts
    answers: dict[str, dict[int, np.ndarray]] = {}
    for engine, batch, lengths, limit in SETTINGS:
        for length in lengths:
            name = f"{engine}, {length or 'own bucket'}, batch {batch}"
            with compile(given.model(task, given.student), engine, batch=batch) as private:
                sizes = [len(item) for item in private.requests.encode(texts)]
                fitting = [index for index, size in enumerate(sizes[:limit]) if length is None or size <= length]
                private.length = length
                logits, _ = private([texts[index] for index in fitting])
            answers[name] = dict(zip(fitting, logits, strict=True))
            print(name, len(fitting), file=sys.stderr, flush=True)
    pairs = []
    for one, other in combinations(answers, 2):
        both = sorted(answers[one].keys() & answers[other].keys())
        a, b = (np.stack([answers[name][index] for index in both]) for name in (one, other))
        same = float(np.mean(a.argmax(-1) == b.argmax(-1)))
        row = {"a": one, "b": other, "examples": len(both), "agreement": same}
        pairs.append({**row, "max_logit_difference": float(np.abs(a - b).max())})
    made = {"format": 1, "pairs": pairs, **provenance(given.seed or 0)}
    write_whole(path, json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
