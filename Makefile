# Tasks of this repository. On a new Debian machine with Rust, git and make, start with `make run` and `make test`.
.PHONY: run test check bench soak fmt schema

CARGO ?= cargo

# Installs what is missing, builds, and runs the demo: a shop, an agent that monitors it, and the agent's page.
run:
	tests/support/packages.sh run
	$(CARGO) run --locked --quiet -- demo

# All tests, with the real components that they need.
test:
	tests/support/packages.sh
	tests/support/tools.sh
	$(CARGO) test --locked --features zabbix-psk

# Fast checks: format, lints, and the example scenarios.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) run --locked --quiet -- check scenarios/

# Ratios, measured side by side in one run; see docs/benchmarks.md.
bench:
	tests/support/packages.sh bench
	benches/peers/install.sh target/peers
	$(CARGO) bench --locked --bench spine --bench alert --bench store --bench sinks --bench scrape --bench zabbix --bench remote_write --bench browser --bench probe

# Soak tests: random browser faults, context isolation, agent crashes after every n-th write and during alert storms, every
# kind of store outage, and unavailable destinations.
soak:
	WACHTA_SOAK=1 tests/support/packages.sh
	tests/support/tools.sh
	tests/support/apps.sh
	WACHTA_SOAK=1 WACHTA_SOAK_RUNS=$${WACHTA_SOAK_RUNS:-100} WACHTA_SOAK_DEATHS=$${WACHTA_SOAK_DEATHS:-1000} WACHTA_SOAK_USERS=$${WACHTA_SOAK_USERS:-500} WACHTA_SOAK_STORM=$${WACHTA_SOAK_STORM:-500} WACHTA_SOAK_STORE=$${WACHTA_SOAK_STORE:-200} WACHTA_SOAK_OUTAGE=$${WACHTA_SOAK_OUTAGE:-600} WACHTA_SOAK_WINDOWS=$${WACHTA_SOAK_WINDOWS:-200} WACHTA_SOAK_FOREIGN=$${WACHTA_SOAK_FOREIGN:-20} $(CARGO) test --locked -- --test-threads=1

fmt:
	$(CARGO) fmt

# The schema that editors use for scenario files.
schema:
	$(CARGO) run --locked --quiet -- schema > scenarios/scenario.schema.json
