package adapt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// intakeTest is an intake with a connection.
type intakeTest struct {
	*intake
	t     *testing.T
	on    *mqttSession
	acked []string
}

func newIntakeTest(t *testing.T, most int) *intakeTest {
	it := &intakeTest{intake: newIntake(most, &Bridge{log: slog.New(slog.DiscardHandler)}), t: t}
	it.connect(true)
	return it
}

func (it *intakeTest) connect(known bool) {
	it.dial()
	it.begin(it.on, known)
}

// dial makes a connection that has not begun.
func (it *intakeTest) dial() {
	if it.on != nil {
		it.on.alive.Store(false)
	}
	it.on = &mqttSession{}
	it.on.alive.Store(true)
}

// message comes in; its id is 0 for QoS 0.
func (it *intakeTest) message(id uint16, payload string, again bool) {
	a := &arrival{topic: "a", payload: []byte(payload), id: id, from: it.on}
	for _, c := range payload {
		a.hash = a.hash*31 + uint64(c)
	}
	on := it.on
	a.ack = func() {
		if on.alive.Load() {
			it.acked = append(it.acked, payload)
		}
	}
	if it.add(a, again) {
		a.ack()
	}
}

// next takes a batch, and tells what is in it.
func (it *intakeTest) next(want string) []*arrival {
	it.t.Helper()
	batch, err := it.take(it.t.Context())
	if err != nil {
		it.t.Fatal(err)
	}
	var got []string
	for _, a := range batch {
		got = append(got, string(a.payload))
	}
	if s := strings.Join(got, " "); s != want {
		it.t.Fatalf("took %q, want %q", s, want)
	}
	return batch
}

func (it *intakeTest) settleAll(batch []*arrival) {
	for _, a := range batch {
		it.settle(a)
	}
}

func (it *intakeTest) expectAcked(want string) {
	it.t.Helper()
	if got := strings.Join(it.acked, " "); got != want {
		it.t.Fatalf("acknowledged %q, want %q", got, want)
	}
}

func TestIntakeOrder(t *testing.T) {
	it := newIntakeTest(t, 10)
	for i, id := range []uint16{0, 1, 0, 2, 3, 0} {
		it.message(id, fmt.Sprint(i), false)
	}
	it.settleAll(it.next("0 1 2 3 4 5"))
	it.expectAcked("1 3 4")
	it.close()
	it.message(4, "late", false)
	if _, err := it.take(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	it.expectAcked("1 3 4")
}

// Messages of QoS 0 make room; the others stay with the MQTT broker until
// there is some.
func TestIntakeRoom(t *testing.T) {
	it := newIntakeTest(t, 3)
	for i, id := range []uint16{0, 1, 0, 0, 2} {
		it.message(id, fmt.Sprint(i), false)
	}
	if n := it.bridge.dropped.Load(); n != 2 {
		t.Errorf("%d are dropped", n)
	}
	it.message(3, "5", false)
	it.message(4, "no room", false)
	it.message(0, "no room for QoS 0 either", false)
	if n := it.bridge.dropped.Load(); n != 4 {
		t.Errorf("%d are dropped", n)
	}
	batch := it.next("1 4 5")
	it.message(5, "its turn is after those", false)
	it.message(0, "6", false)
	it.settleAll(append(batch, it.next("6")...))
	it.expectAcked("1 4 5")
	ctx, cancel := contextEnded()
	defer cancel()
	if _, err := it.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("empty: %v", err)
	}
	select {
	case <-it.again:
	default:
		t.Error("the MQTT broker is not asked for what it keeps")
	}
	it.connect(true)
	it.message(4, "no room", true)
	it.message(5, "its turn is after those", true)
	it.settleAll(it.next("no room its turn is after those"))
	if n := it.bridge.held.Load(); n != 0 || it.bytes != 0 || len(it.unacked) != 0 {
		t.Errorf("%d are held, %d bytes, %d not acknowledged", n, it.bytes, len(it.unacked))
	}
}

// What an MQTT broker sends at once finds the room of the new connection,
// even before begin.
func TestIntakeEarly(t *testing.T) {
	it := newIntakeTest(t, 2)
	for i := range 4 {
		it.message(uint16(1+i), fmt.Sprint(i), false)
	}
	it.settleAll(it.next("0 1"))
	it.dial()
	it.message(3, "2", true)
	it.message(4, "3", true)
	it.message(5, "no room", false)
	it.begin(it.on, true)
	it.message(6, "its turn is after that", false)
	it.settleAll(it.next("2 3"))
	if batch, _ := it.tryTake(); len(batch) > 0 || len(it.again) == 0 {
		t.Errorf("%d more; the MQTT broker is asked %d times for what it keeps", len(batch), len(it.again))
	}
	it.connect(true)
	it.message(5, "no room", true)
	it.settleAll(it.next("no room"))
	it.expectAcked("0 1 2 3 no room")
}

// What comes again over a new connection is known, wherever it is by then.
func TestIntakeAgain(t *testing.T) {
	it := newIntakeTest(t, 10)
	it.message(1, "sent", false)
	it.message(2, "waits", false)
	it.message(3, "other", false)
	batch := it.next("sent waits other")
	it.message(4, "held", false)
	it.connect(true)
	it.settle(batch[0])
	it.expectAcked("")
	it.message(1, "sent", true)
	it.expectAcked("sent")
	it.message(2, "waits", true)
	it.message(3, "new with the number of another", true)
	it.message(4, "held", true)
	it.settleAll(batch[1:])
	it.expectAcked("sent waits")
	it.settleAll(it.next("held new with the number of another"))
	it.expectAcked("sent waits held new with the number of another")

	// A number that comes without the mark is a new message.
	it.message(1, "sent", false)
	it.next("sent")
	it.message(1, "sent", false)
	it.next("sent")

	// An MQTT broker that has lost the session knows nothing of it.
	it.message(7, "lost", false)
	it.connect(false)
	it.message(7, "lost", true)
	it.next("lost lost")
}
