# Two commands set everything up on a machine with Python 3.11 (3.11.4 or later) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
ZIG ?= $(abspath $(BIN))/python -m ziglang
# With one thread each: more than cores there are would wait for each other.
PYTEST_2 := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test slow reference-exports platforms native web sanitize fuzz fuzz-corpus op-sweep reference-models clean FORCE

demo: $(READY)
	$(BIN)/python -m apps.demo

test: $(READY) native
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST_2)

# What takes minutes: every reference model in every format, the native engine on 64-bit ARM, in WebAssembly and with
# emulated AVX-512.
slow: $(READY) native web
	$(BIN)/python -m pytest -m slow

# Two parts of it that continuous integration runs too: the reference models and what their converters load; ONNX's node
# cases on 64-bit ARM, in WebAssembly and with emulated AVX-512, and our operator in other runtimes on 64-bit ARM.
reference-exports: $(READY) native
	$(PYTEST_2) -m slow tests/test_reference_models.py tests/test_worker.py

platforms: $(READY) native web
	$(PYTEST_2) -m slow tests/native/test_arm.py tests/native/test_wasm.py tests/native/test_avx512.py tests/shims/test_arm.py

# Every operator of torch's own database through every target; about an hour on two cores.
op-sweep: $(READY)
	$(BIN)/python -m tests.op_sweep

# The native library into the source folder again, after a change in C.
native: $(READY)
	$(BIN)/cmake -S runtime/native -B build/native -DEDGEWRIGHT_STRICT=ON > /dev/null
	$(BIN)/cmake --build build/native --parallel 2
	cp build/native/libedgewright.so runtime/edgewright_runtime/libedgewright.so.partial
	mv runtime/edgewright_runtime/libedgewright.so.partial runtime/edgewright_runtime/libedgewright.so

# The engine for browsers into runtime/web/dist; needs the package ziglang, or ZIG as its command.
web: $(READY)
	mkdir -p runtime/web/dist
	for isa in simd relaxed; do \
		EDGEWRIGHT_ZIG="$(ZIG)" $(BIN)/cmake -S runtime/native -B build/web-$$isa --toolchain $(CURDIR)/runtime/native/wasm32-wasi.cmake \
			-DEDGEWRIGHT_STRICT=ON -DEDGEWRIGHT_RELAXED=$$([ $$isa = relaxed ] && echo ON || echo OFF) > /dev/null && \
		$(BIN)/cmake --build build/web-$$isa && \
		$(BIN)/python -m sdk.build_runtime.wasm build/web-$$isa/edgewright_common.wasm runtime/web/dist/edgewright-$$isa.wasm && \
		$(BIN)/python -m sdk.build_runtime.wasm build/web-$$isa/edgewright.wasm runtime/web/dist/edgewright-$$isa-every.wasm || exit 1; \
	done

# The tests of the native engine once more, on a library that address and undefined-behaviour sanitizers watch.
sanitize: $(READY)
	$(BIN)/cmake -S runtime/native -B build/sanitize -DEDGEWRIGHT_STRICT=ON -DEDGEWRIGHT_SANITIZE=address,undefined > /dev/null
	$(BIN)/cmake --build build/sanitize --parallel 2
	EDGEWRIGHT_LIBRARY=$(CURDIR)/build/sanitize/libedgewright.so ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		$(BIN)/python -m pytest -q tests/native

# Broken files for SECONDS, from the corpus on; what crashes the engine is left in build/fuzz.  Needs clang.
CLANG ?= clang-19
SECONDS ?= 1200
FUZZ = build/fuzz/fuzz_engine -timeout=60 -rss_limit_mb=4096 -max_len=16384

build/fuzz/fuzz_engine: FORCE $(READY)
	$(BIN)/cmake -S runtime/native -B build/fuzz -DCMAKE_C_COMPILER=$(CLANG) -DBUILD_SHARED_LIBS=OFF \
		-DEDGEWRIGHT_SANITIZE=address,undefined -DEDGEWRIGHT_FUZZ=ON > /dev/null
	$(BIN)/cmake --build build/fuzz

fuzz: build/fuzz/fuzz_engine
	mkdir -p build/fuzz/corpus build/fuzz/kept
	$(BIN)/python -m tests.native.fuzz_corpus unpack build/fuzz/kept
	$(FUZZ) -artifact_prefix=build/fuzz/ -max_total_time=$(SECONDS) -print_final_stats=1 build/fuzz/corpus build/fuzz/kept

# The corpus anew: of its seeds, of itself and of what fuzzing found here, the smallest files that reach all that they reach.
fuzz-corpus: build/fuzz/fuzz_engine
	rm -rf build/fuzz/merged
	mkdir -p build/fuzz/merged build/fuzz/corpus build/fuzz/kept build/fuzz/seeds
	$(BIN)/python -m tests.native.fuzz_corpus unpack build/fuzz/kept
	$(BIN)/python -m tests.native.fuzz_corpus seeds build/fuzz/seeds
	$(FUZZ) -merge=1 -use_counters=0 build/fuzz/merged build/fuzz/seeds build/fuzz/kept build/fuzz/corpus
	$(BIN)/python -m tests.native.fuzz_corpus keep build/fuzz/merged

# Every reference model again, on all cores; about two hours on two.
reference-models: $(READY)
	MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 $(BIN)/python -m tests.reference_models train

# torch is asked for by its exact version first, so that no other package pulls another one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11, 4) and 'Edgewright needs Python 3.11.4 or later; set PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all,dev]"
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
