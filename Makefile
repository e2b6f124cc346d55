# Every target first makes and fills .venv itself; all it needs is Python 3.11 or 3.12, pip's index and libgomp1.
BIN := .venv/bin
READY := .venv/ready

# docs/accuracy.md (hours; resumes): make accuracy DATA=FOLDER [ONLY="--task sst2 --recipe 2quad-freediv --seed 0"].
# make robustness takes the same: the students, asked about texts unlike those that they were distilled on.
STUDENTS := data teachers students
accuracy: STAGES := $(STUDENTS) encrypted fixed padding penalty
robustness: STAGES := $(STUDENTS) robustness

NATIVE := $(wildcard src/mpcify/engines/ring/kernels/*.[ch])

.PHONY: demo test lint sanitize dist accuracy robustness bench kernels peers reliability clean

demo: $(READY)
	mkdir -p build
	$(BIN)/mpcify demo --report build/demo.json

# Two processes of one thread each: on models as small as the tests', several threads only wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The native kernels' tests, with the sanitizers of gcc.
sanitize: $(READY)
	bash .ci/sanitize

accuracy robustness: $(READY)
	for stage in $(STAGES); do $(BIN)/python -m benchmarks.accuracy.$$stage --data $(DATA) $(ONLY) || exit 1; done
	$(BIN)/python -m benchmarks.accuracy.tables

bench: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ring layer-128 layer-512 layer-128-batch-8 layer-128-two-threads bert-base-128
	$(BIN)/python benchmarks/readme.py

# What the native kernels reach on one core, on a machine that does nothing else; and how many instructions they take.
kernels: $(READY)
	OMP_NUM_THREADS=1 taskset --cpu-list 0 $(BIN)/python -m benchmarks.kernels --out benchmarks/results/kernels.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.instructions --out benchmarks/results/instructions.json

# docs/peers.md (ten minutes the first time, when CrypTen's environment is made in build/)
peers: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers
	$(BIN)/python benchmarks/readme.py

# docs/reliability.md (an hour; Linux, and root for network namespaces and the fault of a read-only folder)
reliability: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.load
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.load --model minilm --requests 200
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.restarts
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.faults
	$(BIN)/python -m benchmarks.reliability.gateway
	$(BIN)/python -m benchmarks.reliability.speed
	$(BIN)/python -m benchmarks.reliability.hosts
	$(BIN)/python -m benchmarks.reliability.hosts --engine ring
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.layer
	$(BIN)/python -m benchmarks.reliability.report

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	bash .ci/dist

clean:
	rm -rf .venv build/lib.* build/temp.* dist src/*.egg-info src/mpcify/engines/ring/kernels/native.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements.txt requirements-data.txt pyproject.toml setup.py .ci/setup $(NATIVE)
	bash .ci/setup
	touch $@
