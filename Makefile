# make train   first run: sets everything up, then HarmonyDream learns Atari 100K Pong on a local Ray
# make test    the same set-up and a browser, then the tests
# make soak    the tests that take long
# make lint    ruff and pyright        make docs    the generated reference page
# make lock    the newest versions into constraints.txt; make test-newest: the tests with them

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell command -v $(p) 2>/dev/null)))
EXTRAS := all,dev
PRESETS := tune_configs/harmonydream
ARGS ?=

TORCH := torch==2.13.0
PIP := -m pip install --quiet --disable-pip-version-check
NEWEST := $(VENV)-newest
APT := apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
TESTS := -m pytest -n 2 -m "not slow and not gpu"

.PHONY: train test test-newest soak lock lint docs install system browser clean

train: install
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	  config=$(PRESETS)/atari100k.yaml; \
	else \
	  config=$(PRESETS)/atari100k_cpu.yaml; \
	  echo "no GPU: training $$config (small network, short budget, few evaluation episodes)"; \
	fi; \
	exec $(BIN)/reverie train $$config $(ARGS)

test: install browser
	$(THREADS) $(BIN)/python $(TESTS) $(ARGS)

soak: install
	$(THREADS) $(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: install
	$(BIN)/python -m reverie.cli.reference > docs/reference.md

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt | system
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(f'Python 3.11 or 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11' if not (3, 11) <= v < (3, 13) else 0)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt $(TORCH)
	$(BIN)/python $(PIP) -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

# The newest of everything that pyproject.toml allows, in a venv of its own. Torch stays as it is:
# a newer one brings other CUDA packages, which are for a person to try on a GPU.
$(NEWEST)/.installed: pyproject.toml | system
	rm -rf $(NEWEST) && $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python $(PIP) $(TORCH)
	$(NEWEST)/bin/python $(PIP) $(TORCH) -e ".[$(EXTRAS)]"
	@touch $@

test-newest: $(NEWEST)/.installed browser
	$(THREADS) $(NEWEST)/bin/python $(TESTS) $(ARGS)

lock:
	rm -rf $(NEWEST) && $(MAKE) $(NEWEST)/.installed
	@{ echo "# Every package that CI runs with, and its version; written by \`make lock\`."; \
	  $(NEWEST)/bin/python -m pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu$$//'; } > constraints.txt

# Off-screen rendering needs EGL; a Debian Python needs its venv module.
system:
	@missing=""; \
	ldconfig -p 2>/dev/null | grep -q libEGL.so.1 || missing="$$missing libegl1 libgl1-mesa-dri"; \
	$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    $(APT) $$missing; \
	  else \
	    echo "please install:$$missing    (e.g. sudo apt-get install$$missing)"; exit 1; \
	  fi; \
	fi

# The page of a report is tested in a browser; where there is none, that test is skipped.
browser:
	@if ! { command -v chromium && command -v chromedriver; } >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing chromium chromium-driver"; \
	    $(APT) chromium chromium-driver || echo "no browser: its test will be skipped"; \
	  else \
	    echo "no chromium and chromedriver: their test will be skipped"; \
	  fi; \
	fi

clean:
	rm -rf $(VENV) $(NEWEST)
