# What is run often. .ci/run is all of it, as it must pass.

.PHONY: build test short race lint proof ci

build: ## the program, into ./tbhist
	go build .

test: ## what the README says
	go test ./...

short: ## what can be waited for between two edits
	go vet ./...
	go test -short ./...

race:
	go test -race -shuffle=on ./...

lint:
	bash .ci/run lint holds

proof: ## against libzmq, thingsbus 0.2.1 and Prometheus
	bash .ci/run proofs

ci:
	bash .ci/run
