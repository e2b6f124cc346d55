"""A client in a process of its own: it answers what is written to it, several requests at once.

    python -m benchmarks.reliability.caller FOLDER [CALLERS]

A line of stdin is {"text", "id"}; a line of stdout is {"id", "seconds"} with {"logits", "run", "cost"} (seconds of the
request alone, and its whole cost) or with {"code", "what"}. The first line says whether it is connected. The end of
stdin ends it.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    import mpcify
    from mpcify.errors import MpcifyError

    folder, callers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    lock = threading.Lock()

    def tell(**facts: Any) -> None:
        with lock:
            print(json.dumps(facts), flush=True)

    def error(problem: BaseException) -> dict[str, Any]:
        code = problem.code if isinstance(problem, MpcifyError) else None
        return {"code": code, "what": problem.what if isinstance(problem, MpcifyError) else repr(problem)}

    start = time.monotonic()
    tell(id="starting")
    try:
        model = mpcify.connect(folder)
    except MpcifyError as problem:
        return tell(id="connected", seconds=time.monotonic() - start, **error(problem))
    tell(id="connected", seconds=time.monotonic() - start)

    def answer(asked: dict[str, Any]) -> None:
        start = time.monotonic()
        try:
            logits, cost = model([asked["text"]])
            found = {"logits": logits[0].tolist(), "run": cost.seconds, "cost": cost.to_json()}
        except Exception as problem:
            found = error(problem)
        tell(id=asked["id"], seconds=time.monotonic() - start, **found)

    with model, ThreadPoolExecutor(callers) as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))


if __name__ == "__main__":
    main()
