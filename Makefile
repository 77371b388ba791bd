# Everyday targets. The first run of any of them makes .venv from the lock file.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests that run at once.
JOBS ?= 2
# Debian releases whose PgBouncers are proven as well, and where they are unpacked.
LATER ?= trixie forky
POOLERS ?= /tmp/scalple-poolers
# Where radosgw is unpacked.
S3_SERVER ?= /tmp/scalple-radosgw

.PHONY: demo test lint types fmt bench prove test-s3 drivers record clean

demo: $(STAMP)  ## reprocess sample_logs into a local store and print the answer
	@$(BIN)/scalple-ingest demo

test: $(STAMP) servers lint types  ## everything that must hold before a commit lands
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --hypothesis-profile=ci

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

fmt: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP) servers  ## throughput and memory beside DuckDB's bare copy and pgBadger
	sh tests/install_servers.sh pgbadger
	$(BIN)/python tests/bench.py
	$(BIN)/python tests/bench_sidecar.py
	$(BIN)/python tests/bench_query.py
	$(BIN)/python tests/bench_verify.py
	$(BIN)/python tests/bench_daemon.py
	$(BIN)/python tests/bench_beside.py

prove: $(STAMP) servers  ## the long proofs: millions of simulated statements, 600,000 real ones, a gigabyte of COPY
	SIMULATED_STATEMENTS=5000000 EXAMPLES_TIMES=10 $(BIN)/python -m pytest -q -s tests/test_simulation.py
	EXAMPLES_TIMES=10 $(BIN)/python -m pytest -q tests/test_claims.py tests/test_attribution_stack.py tests/test_evidence.py tests/test_cli_revisions.py
	DIGEST_EXAMPLES=300 $(BIN)/python -m pytest -q tests/store/test_digest.py
	INDEX_EXAMPLES=200 $(BIN)/python -m pytest -q tests/store/test_compaction.py
	EXPIRY_EXAMPLES=300 $(BIN)/python -m pytest -q tests/store/test_expiry.py
	ENTITLED_EXAMPLES=3000 $(BIN)/python -m pytest -q tests/test_entitled.py
	RENAMES_EXAMPLES=300 $(BIN)/python -m pytest -q tests/test_renames.py
	for turn in 1 2 3; do \
	    FOLLOWED_EXAMPLES=900 $(BIN)/python -m pytest -q -s tests/test_follower_model.py --hypothesis-seed=$$(date +%s) || exit 1; \
	done
	LATE_WORLDS=100 EXAMPLES_TIMES=10 $(BIN)/python -m pytest -q -s tests/test_late_events.py
	EXAMPLES_TIMES=50 $(BIN)/python -m pytest -q tests/test_intake.py
	CLOCK_JUMPS=1 $(BIN)/python -m pytest -q tests/test_clock_jumps.py
	EVERY_LINE=1 EXAMPLES_TIMES=10 $(BIN)/python -m pytest -q tests/test_recordings.py
	EVERY_STEP=1 $(BIN)/python -m pytest -q tests/store/test_crash.py tests/store/test_rotation.py tests/store/test_remote.py tests/store/test_remote_keys.py tests/store/test_resume.py tests/store/test_index_attacks.py tests/store/test_expiry_attacks.py
	sh tests/install_servers.sh strace
	EVERY_STEP=1 $(BIN)/python -m pytest -q tests/store/test_lease.py
	CRASH_STATES=20000 $(BIN)/python -m pytest -q -s tests/store/test_powercut.py
	EVERY_CALL=1 $(BIN)/python -m pytest -q -s tests/store/test_faults.py
	KILLS=500 $(BIN)/python -m pytest -q -s tests/store/test_crash.py -k kill
	EVERY_SIZE=1 $(BIN)/python -m pytest -q -s tests/test_full_disk.py
	EVERY_BIT=1 $(BIN)/python -m pytest -q -s tests/store/test_attacks.py tests/store/test_standalone.py
	EVERY_PAIR=1 $(BIN)/python -m pytest -q -s tests/store/test_consistency.py
	EVERY_LEAK=1 $(BIN)/python -m pytest -q tests/test_nothing_leaks.py
	STACK_STATEMENTS=200000 $(BIN)/python -m pytest -q -s tests/test_correlator_stack.py
	for release in $(LATER); do \
	    sh tests/install_later_pooler.sh $$release $(POOLERS)/$$release && \
	    STACK_PGBOUNCER=$(POOLERS)/$$release/pgbouncer STACK_STATEMENTS=40000 \
	        $(BIN)/python -m pytest -q -s tests/test_correlator_stack.py || exit 1; \
	done
	COMPACTION_KILLS=100 EXAMPLES_TIMES=25 $(BIN)/python -m pytest -q tests/test_daemon_compacting.py tests/store/test_shipping.py
	PACKAGED=1 $(BIN)/python -m pytest -q tests/test_packaging.py
	if docker info >/dev/null 2>&1; then \
	    docker build -q -f docs/deploy/Dockerfile --target servers . && \
	    docker build -q -f docs/deploy/Dockerfile --target scalple . || exit 1; \
	else echo "no container engine: the images of docs/deploy aren't built"; fi
	DOCTOR_GRADES=1 $(BIN)/python -m pytest -q -s tests/test_doctor_stack.py
	DAEMON_KILLS=300 $(BIN)/python -m pytest -q -s tests/test_daemon_stack.py
	SOAK_SECONDS=2100 $(BIN)/python -m pytest -q -s tests/test_daemon_soak.py
	SIDECAR_STATEMENTS=110000 SIDECAR_COPY_MB=1000 $(BIN)/python -m pytest -q tests/test_sidecar_stack.py tests/test_sidecar_process.py

test-s3: $(STAMP)  ## the same proofs of stores in S3 against a real server, radosgw from Debian, unpacked, not installed
	sh tests/install_radosgw.sh $(S3_SERVER)
	S3_SERVER=$(S3_SERVER) $(BIN)/python -m pytest -q -rs tests/store/test_remote.py tests/test_s3_server.py

drivers: $(STAMP) servers  ## node-postgres and JDBC through the sidecar
	sh tests/drivers/install.sh
	$(BIN)/python -m pytest -q tests/drivers

record: $(STAMP) servers  ## record sample_logs again, from real servers
	$(BIN)/python sample_logs/record.py

.PHONY: servers
servers:  ## PostgreSQL 15, pgAudit and PgBouncer, from Debian
	@sh tests/install_servers.sh postgresql-15 postgresql-15-pgaudit pgbouncer

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { sh tests/install_servers.sh python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) demo bench build *.egg-info
