# make train   first run: sets everything up, then HarmonyDream learns Atari 100K Pong on a local Ray
# make test    the same set-up, then the tests
# make soak    the tests that take long
# make lint    ruff and pyright        make docs    the generated reference page

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell command -v $(p) 2>/dev/null)))
EXTRAS := all,dev
PRESETS := tune_configs/harmonydream
ARGS ?=

.PHONY: train test soak lint docs install system clean

train: install
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	  config=$(PRESETS)/atari100k.yaml; \
	else \
	  config=$(PRESETS)/atari100k_cpu.yaml; \
	  echo "no GPU: training $$config (small network, short budget, few evaluation episodes)"; \
	fi; \
	exec $(BIN)/reverie train $$config $(ARGS)

test: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadgroup \
	  -m "not slow and not gpu" $(ARGS)

soak: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

# Off-screen rendering needs EGL; a Debian Python needs its venv module.
system:
	@missing=""; \
	ldconfig -p 2>/dev/null | grep -q libEGL.so.1 || missing="$$missing libegl1 libgl1-mesa-dri"; \
	$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  else \
	    echo "please install:$$missing    (e.g. sudo apt-get install$$missing)"; exit 1; \
	  fi; \
	fi

clean:
	rm -rf $(VENV)
