# What is run often. .ci/run is all of it, as it must pass.

.PHONY: build test short race lint proof follow plateau ci

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

follow: ## followers through kills, cuts and pauses, 20 rounds of it
	TBHIST_FOLLOW_ROUNDS=20 go test -tags proof -count=1 -v -timeout 60m -run TestFollow ./internal/proof

plateau: ## forty turns of all rings: the file comes to rest
	TBHIST_TURNS=40 go test -count=1 -v -timeout 20m -run TestPlateauRests ./store/bolt

ci:
	bash .ci/run
