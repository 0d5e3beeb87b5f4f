# What is run often. .ci/run is all of it, as it must pass.

.PHONY: build test short race lint proof follow plateau crash powercut hostile flips fuzz vuln ci

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

hostile: ## bad peers of every kind at all ports for half an hour, beside good ones that must lose nothing
	TBHIST_HOSTILE=30m go test -tags proof -count=1 -v -timeout 60m -run TestHostile ./internal/proof

flips: ## 2,000 damaged files opened, read, written and checked; TBHIST_FLIPS_SEED=N has the same again
	TBHIST_FLIPS=2000 go test -count=1 -v -timeout 60m -run TestFlips ./store/bolt

crash: ## the broker killed under load, 200 times; TBHIST_CRASH_SEED=N has the same choices made again
	TBHIST_CRASH_ROUNDS=200 go test -tags proof -count=1 -v -timeout 60m -run 'TestCrash$$' ./internal/proof

powercut: ## the power cut 500 times, and every way in which a disk fails; TBHIST_CUTS_SEED=N has the same cuts again
	TBHIST_CUTS=500 TBHIST_DISK_WAYS=all go test -tags proof -count=1 -v -timeout 60m -run 'PowerCut|Disk|FileSizeLimit' ./internal/proof

fuzz: ## a minute of all decoders; FOR=10m gives each as long
	bash .ci/fuzz $(FOR)

vuln: ## what is known of the modules that are called
	bash .ci/vuln

ci:
	bash .ci/run
