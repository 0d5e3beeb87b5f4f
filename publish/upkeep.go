package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// Upkeep is what looking after a broker takes, as functions that may be
// called from any goroutine. Each of them may be nil: 404.
type Upkeep struct {
	// Token lets in who is not on this machine; "" lets in nobody else.
	Token string
	// Forget takes a Thing, and with tree all below it, out of everywhere.
	// With dryRun it only says what would go.
	Forget func(ctx context.Context, name thing.Name, tree, dryRun bool) (store.Forgotten, error)
	// Usage calls yield with what history holds of each Thing, in no order,
	// until it returns false.
	Usage func(ctx context.Context, yield func(store.ThingUsage) bool) error
	// Backup writes a copy of the history to w, as of the head when it
	// begins, in the form of docs/FORMAT.md.
	Backup func(ctx context.Context, w io.Writer) error
	// FileBytes gives the size of the history's file and what it may be, 0
	// for what is not known; nil: neither is.
	FileBytes func() (size, most int64)
}

const (
	// answerTime is how long an asker may take over what it is answered. It
	// counts from the answer: making that may take longer than the server gives
	// others.
	answerTime = time.Minute
	// Who takes a backup keeps others from one, and the broker from room in its
	// file: so it takes leastBackup bytes in answerTime at least.
	leastBackup = 1 << 20
	backupPiece = 64 << 10
	// pieceTime is what a piece may take at that rate.
	pieceTime = answerTime * backupPiece / leastBackup
	// maxStats bounds how many ask for stats at once: each walks everything.
	maxStats = 2
)

// upkeep answers the upkeep requests.
type upkeep struct {
	p     *Publisher
	o     *Upkeep
	gate  *gate
	stats chan struct{} // a token for each being made
	copy  chan struct{} // … for the backup being made
}

// handleUpkeep adds the paths of upkeep.
func (p *Publisher) handleUpkeep(mux *http.ServeMux, o *Upkeep) {
	u := &upkeep{p: p, o: o, gate: newGate(o.Token), stats: make(chan struct{}, maxStats), copy: make(chan struct{}, 1)}
	if o.Forget != nil {
		mux.HandleFunc(wire.PathForget, u.guarded(http.MethodPost, u.forget))
	}
	if o.Usage != nil {
		mux.HandleFunc(wire.PathStats, u.guarded(http.MethodGet, u.usage))
	}
	if o.Backup != nil {
		mux.HandleFunc(wire.PathBackup, u.guarded(http.MethodGet, u.backup))
	}
}

// guarded lets in by the gate, and only one method: HEAD would make a whole
// backup for nobody.
func (u *upkeep) guarded(method string, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if no := u.gate.check(r); no != nil {
			if n, ok := u.gate.log.Pass(addrOf(r), u.p.clock.now()); ok {
				u.p.o.Logger.Warn("upkeep refused", "source", addrOf(r), "path", r.URL.Path, "reason", no.code, "suppressed", n)
			}
			if no.status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			answerError(w, no.status, no.code, no.message)
			return
		}
		if r.Method != method {
			w.Header().Set("Allow", method)
			answerError(w, http.StatusMethodNotAllowed, wire.CodeBadRequest, r.URL.Path+" takes "+method)
			return
		}
		f(w, r)
	}
}

func (u *upkeep) forget(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxUpkeepRequest))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		answerError(w, http.StatusRequestEntityTooLarge, wire.CodeTooLarge, fmt.Sprintf("the body is too large: taken are %d bytes", wire.MaxUpkeepRequest))
		return
	case err != nil:
		answerError(w, http.StatusBadRequest, wire.CodeBadRequest, "the body did not come in whole, or not in time")
		return
	}
	q, err := wire.ParseForgetRequest(body)
	if err != nil {
		answerError(w, http.StatusBadRequest, wire.CodeBadRequest, err.Error())
		return
	}
	gone, err := u.o.Forget(r.Context(), q.NS, q.Tree, q.DryRun)
	if err != nil {
		answerFailure(w, err)
		return
	}
	answer := wire.Forgotten{Things: gone.Things, Updates: gone.Updates, Names: gone.Names}
	if len(answer.Names) > wire.MaxForgottenNames {
		answer.Names = answer.Names[:wire.MaxForgottenNames]
	}
	if answer.Names == nil {
		answer.Names = []thing.Name{}
	}
	answerJSON(w, http.StatusOK, &answer)
}

func (u *upkeep) usage(w http.ResponseWriter, r *http.Request) {
	ns, depth, err := statsQuery(r)
	if err != nil {
		answerError(w, http.StatusBadRequest, wire.CodeBadRequest, err.Error())
		return
	}
	if !take(u.stats) {
		answerError(w, http.StatusServiceUnavailable, wire.CodeBusy, "others are asking for stats: ask again in a while")
		return
	}
	defer func() { <-u.stats }()
	tally := NewTally(ns, depth, thing.MicrosOf(u.p.clock.wall()))
	if err := u.o.Usage(r.Context(), func(t store.ThingUsage) bool {
		tally.Add(t)
		return true
	}); err != nil {
		answerFailure(w, err)
		return
	}
	s := tally.Stats()
	state := u.p.o.Store.State()
	s.Epoch, s.Head = state.Epoch, state.Head
	if u.o.FileBytes != nil {
		s.FileBytes, s.MaxBytes = u.o.FileBytes()
	}
	answerJSON(w, http.StatusOK, s)
}

// maxDepth is deeper than any name.
const maxDepth = thing.MaxNameBytes

func statsQuery(r *http.Request) (ns thing.Name, depth int, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", 0, errors.New("taken is ns=NS&depth=COUNT")
	}
	for name, values := range q {
		if name != "ns" && name != "depth" {
			return "", 0, errors.New(strconv.Quote(name) + " is not known: taken are ns and depth")
		}
		if len(values) > 1 {
			return "", 0, errors.New(strconv.Quote(name) + " is given more than once")
		}
	}
	if ns, err = thing.ParseName(q.Get("ns")); err != nil {
		var refusal *thing.Refusal
		if errors.As(err, &refusal) {
			err = errors.New("\"ns\" is a namespace: " + refusal.Taken)
		}
		return "", 0, err
	}
	depth = 1
	if s := q.Get("depth"); s != "" {
		if depth, err = strconv.Atoi(s); err != nil || depth < 0 || depth > maxDepth {
			return "", 0, errors.New(strconv.Quote(s) + " is no depth: taken is a number from 0")
		}
	}
	return ns, depth, nil
}

func (u *upkeep) backup(w http.ResponseWriter, r *http.Request) {
	if !take(u.copy) {
		answerError(w, http.StatusServiceUnavailable, wire.CodeBusy, "another backup is being made: ask again in a while")
		return
	}
	defer func() { <-u.copy }()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Trailer", wire.BackupError)
	out := &pieces{w: w, c: http.NewResponseController(w), left: answerTime}
	began := u.p.clock.now()
	err := u.o.Backup(r.Context(), out)
	switch {
	case err == nil:
		u.p.o.Logger.Info("backup sent", "to", addrOf(r), "bytes", out.written, "took", u.p.clock.now().Sub(began).Round(time.Millisecond).String())
		return
	case out.written == 0 && out.err == nil:
		h.Del("Trailer")
		answerFailure(w, err)
	case out.err == nil:
		// What was sent has no end mark. The trailer tells why.
		_ = out.c.SetWriteDeadline(time.Now().Add(answerTime))
		h.Set(wire.BackupError, err.Error())
	}
	u.p.o.Logger.Warn("backup not sent", "to", addrOf(r), "bytes", out.written, "err", unsent(r, out, err))
}

// unsent says why a backup did not come to its end, for people.
func unsent(r *http.Request, out *pieces, err error) error {
	switch {
	case errors.Is(out.err, os.ErrDeadlineExceeded):
		return errors.New("who asked took less than 1 MiB a minute")
	case out.err != nil, r.Context().Err() != nil:
		return errors.New("who asked has gone")
	}
	return err
}

// pieces writes to an asker piece by piece. Each may take what is left of
// answerTime, which those before it used up as far as they were slow. Waiting
// for what is to be written does not count.
type pieces struct {
	w       io.Writer
	c       *http.ResponseController
	left    time.Duration // 0 < left <= answerTime
	written int64
	err     error // of writing
}

func (p *pieces) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		piece := b[:min(len(b), backupPiece)]
		began := time.Now()
		_ = p.c.SetWriteDeadline(began.Add(p.left)) // a writer that knows none has none
		m, err := p.w.Write(piece)
		p.left = min(max(p.left-time.Since(began), 0)+pieceTime, answerTime)
		n += m
		p.written += int64(m)
		if err != nil {
			p.err = err
			return n, err
		}
		b = b[m:]
	}
	return n, nil
}

func take(tokens chan struct{}) bool {
	select {
	case tokens <- struct{}{}:
		return true
	default:
		return false
	}
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) // a writer that knows none has none
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the asker may have gone
}

func answerError(w http.ResponseWriter, status int, code, message string) {
	answerJSON(w, status, &wire.UpkeepError{Type: "error", Code: code, Message: message})
}

// answerFailure tells that something was tried and went wrong.
func answerFailure(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, store.ErrClosed):
		answerError(w, http.StatusServiceUnavailable, wire.CodeUnavailable, "the broker is closing")
	case errors.Is(err, context.Canceled):
		// The asker has gone: nobody reads it.
		answerError(w, http.StatusServiceUnavailable, wire.CodeUnavailable, "the question was given up")
	default:
		answerError(w, http.StatusInternalServerError, wire.CodeFailed, err.Error())
	}
}
