package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"tbhist/internal/zmtp"
)

// ErrLost tells that a connection to the broker ended that had been good:
// the broker was stopped, or the network is gone.
var ErrLost = errors.New("the connection to the broker is lost")

// NoBrokerError tells that no connection to the broker could be made. With a
// zone it may be that looking it up failed, or that none of its brokers
// answers. Any of that may pass.
type NoBrokerError struct {
	Zone   string // that was looked up; "" without one
	Broker string // tcp://HOST:PORT with the main port; "" if no host is known
	Addr   string // HOST:PORT that was dialled; "" if none was
	Err    error  // what went wrong, for errors.Is
	why    string
	// sentence, unless "", is the whole error.
	sentence string
}

// Error says in one sentence what was found instead of a broker.
func (e *NoBrokerError) Error() string {
	if e.sentence != "" {
		return e.sentence
	}
	return fmt.Sprintf("no broker answers at %s: %s", e.place(), e.why)
}

// Reason is Error without the broker's address: "connection refused".
func (e *NoBrokerError) Reason() string { return e.why }

// place gives the broker's address, and the port if it is another.
func (e *NoBrokerError) place() string {
	at := e.Broker
	if !strings.HasSuffix(at, e.Addr) {
		_, port, _ := strings.Cut(e.Addr[strings.LastIndexByte(e.Addr, ']')+1:], ":")
		at += ", port " + port
	}
	return at
}

// noneOf gives one error for the brokers of a zone, none of which answers.
// Broker and Addr are those of the first: it was the one to be preferred.
func noneOf(tried []*NoBrokerError) error {
	if len(tried) == 1 {
		return tried[0]
	}
	all := *tried[0]
	var errs []error
	var reasons []string
	for _, e := range tried {
		errs = append(errs, e)
		reasons = append(reasons, e.place()+": "+e.why)
	}
	all.Err, all.why = errors.Join(errs...), strings.Join(reasons, "; ")
	all.sentence = "no broker of zone " + all.Zone + " answers: " + all.why
	return &all
}

// Unwrap gives what went wrong.
func (e *NoBrokerError) Unwrap() error { return e.Err }

func noBroker(at endpoint, offset int, err error) error {
	var (
		dns     *net.DNSError
		timeout net.Error
		peer    *zmtp.PeerError
		why     string
	)
	switch {
	case errors.As(err, &dns):
		why = "the host " + dns.Name + " is not known"
		if dns.IsTimeout || dns.IsTemporary {
			why = "the name server does not answer"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "connection refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		why = "nothing is heard from it"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		why = "it closes the connection: this host's address may not be among those that the broker lets in"
	case errors.As(err, &peer):
		why = "what answers is no broker (" + peer.Err.Error() + ")"
	default:
		why = err.Error()
	}
	return &NoBrokerError{Broker: at.url(), Addr: at.addr(offset), Err: err, why: why}
}

// The codes of a BrokerError.
const (
	CodeBadRequest   = "bad_request"   // the question is wrong; the message says how
	CodeEpochChanged = "epoch_changed" // another history file than before: start over
	CodeTooLarge     = "too_large"     // the question, or what it asks for at once
	CodeBusy         = "busy"          // ask again later
	CodeUnavailable  = "unavailable"   // the history cannot be read now
)

// BrokerError is what a broker answers when it does not answer a question.
type BrokerError struct {
	Code    string // one of the codes above
	Message string // what is wrong and what is taken
	Epoch   string // the name of its history file
}

// Error gives the broker's message.
func (e *BrokerError) Error() string {
	return "the broker says " + e.Code + ": " + e.Message
}
