// Package proof proves tbhist as a whole: the built program, on real sockets,
// against the peers it is made for: libzmq, thingsbus 0.2.1 and Prometheus.
// Its tests have the build tag proof; setup.sh installs the peers:
//
//	bash internal/proof/setup.sh
//	go test -tags proof -v ./internal/proof
//
// Each test prints one line with what it measured, beginning with "proof:".
package proof
