package bolt

import (
	"log/slog"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"tbhist/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is a DB as the conformance suite wants it.
type engine struct {
	*DB
	dir string
}

func openEngine(t *testing.T, dir string, o storetest.Options) storetest.Engine {
	t.Helper()
	db, err := Open(filepath.Join(dir, "history.db"), Options{
		Rules: o.Rules, Now: o.Now, TrustClock: o.TrustClock, MaxDB: o.MaxDB, lazyAge: true,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return &engine{DB: db, dir: dir}
}

func (e *engine) Reopen(t *testing.T, o storetest.Options) storetest.Engine {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return openEngine(t, e.dir, o)
}

func (e *engine) Maintain(t *testing.T) {
	t.Helper()
	if err := e.DB.Maintain(); err != nil {
		t.Error(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Engine {
		return openEngine(t, o.Dir, o)
	})
}
