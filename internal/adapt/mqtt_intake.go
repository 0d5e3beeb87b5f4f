package adapt

import (
	"context"
	"hash/maphash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// What is sent on before it is acknowledged.
const (
	batchMessages = 256
	batchBytes    = 1 << 20
)

// maxHeldBytes is what messages that wait may take.
const maxHeldBytes = 64 << 20

// arrival is a message from the MQTT broker.
type arrival struct {
	topic    string
	payload  []byte
	retained bool
	at       time.Time
	order    uint64

	// Of a message with QoS 1 or 2; guarded by the intake.
	id   uint16 // 0 for QoS 0
	hash uint64
	from *mqttSession
	ack  func()
	// settled: it is sent on, but the connection that it came over was gone
	// by then, so that the MQTT broker will send it again.
	settled bool
}

// size is what it takes in memory, about.
func (a *arrival) size() int { return len(a.topic) + len(a.payload) + 256 }

// intake holds messages until they are sent on. Those of QoS 0 that find no
// room push out the oldest of their kind. The others the MQTT broker keeps
// until they are acknowledged: what finds no room here stays there, and comes
// with the next connection.
type intake struct {
	max    int // messages
	bridge *Bridge
	again  chan struct{} // holds a token when a new connection is to be made

	mu       sync.Mutex // guards all below
	order    uint64
	bytes    int
	fleeting arrivals            // of QoS 0
	kept     arrivals            // of QoS 1 and 2
	unacked  map[uint16]*arrival // of QoS 1 and 2, those being sent included
	on       *mqttSession        // the connection of now
	refused  bool                // some found no room on it
	closed   bool
	more     chan struct{} // holds a token after a push, and after close
}

func newIntake(most int, b *Bridge) *intake {
	return &intake{
		max: most, bridge: b, again: make(chan struct{}, 1),
		unacked: make(map[uint16]*arrival), more: make(chan struct{}, 1),
	}
}

// arrivals is a queue.
type arrivals struct {
	all  []*arrival
	head int
}

func (q *arrivals) len() int { return len(q.all) - q.head }

func (q *arrivals) first() *arrival { return q.all[q.head] }

func (q *arrivals) push(a *arrival) { q.all = append(q.all, a) }

func (q *arrivals) pop() *arrival {
	a := q.all[q.head]
	q.all[q.head] = nil
	if q.head++; q.head*2 >= len(q.all) {
		n := copy(q.all, q.all[q.head:])
		clear(q.all[n:])
		q.all, q.head = q.all[:n], 0
	}
	return a
}

// begin prepares for a connection. What the MQTT broker no longer knows of,
// since it has lost the session, it will not send again.
func (q *intake) begin(on *mqttSession, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enter(on)
	if !known {
		clear(q.unacked)
	}
}

// enter makes on the connection of now, if it is not. The first messages of a
// session that goes on may come before begin: they must find the room of
// their own connection, since what is turned away on it comes again only with
// the next.
func (q *intake) enter(on *mqttSession) {
	if q.on == on {
		return
	}
	q.on, q.refused = on, false
	select {
	case <-q.again:
	default:
	}
}

// push takes a message. It never waits, as the connection would not be kept
// alive meanwhile.
func (q *intake) push(from *mqttSession, m mqtt.Message) {
	a := &arrival{topic: m.Topic(), payload: m.Payload(), retained: m.Retained(), at: time.Now()}
	if m.Qos() > 0 {
		a.id, a.from, a.ack = m.MessageID(), from, m.Ack
		a.hash = maphash.Bytes(seed, a.payload)
	}
	if q.add(a, m.Duplicate()) {
		m.Ack()
	}
}

// add tells whether it is to be acknowledged at once.
func (q *intake) add(a *arrival, again bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if a.id != 0 {
		q.enter(a.from)
		if known := q.unacked[a.id]; known != nil && again && known.topic == a.topic && known.hash == a.hash {
			// It is here already.
			known.from, known.ack = a.from, a.ack
			if known.settled {
				delete(q.unacked, a.id)
			}
			return known.settled
		}
	}
	if !q.makeRoom(a) {
		return false
	}
	q.bridge.Received()
	q.order++
	a.order = q.order
	q.bytes += a.size()
	q.bridge.Held(1)
	if a.id == 0 {
		q.fleeting.push(a)
	} else {
		q.kept.push(a)
		q.unacked[a.id] = a
	}
	q.wake()
	return false
}

// makeRoom drops messages of QoS 0 for a, and tells whether there is room.
func (q *intake) makeRoom(a *arrival) bool {
	if a.id != 0 && q.refused {
		return false // the order is kept
	}
	for q.len() > 0 && (q.len() >= q.max || q.bytes+a.size() > maxHeldBytes) {
		if q.fleeting.len() == 0 {
			if a.id == 0 {
				q.bridge.Received()
				q.bridge.Dropped(1)
			} else {
				q.refused = true
			}
			return false
		}
		q.bytes -= q.fleeting.pop().size()
		q.bridge.Held(-1)
		q.bridge.Dropped(1)
	}
	return true
}

func (q *intake) len() int { return q.fleeting.len() + q.kept.len() }

func (q *intake) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take gives the next messages, in their order. The error is that of ctx, or
// io.EOF when the intake is closed and empty.
func (q *intake) take(ctx context.Context) ([]*arrival, error) {
	for {
		batch, closed := q.tryTake()
		switch {
		case len(batch) > 0:
			return batch, nil
		case closed:
			return nil, io.EOF
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.more:
		}
	}
}

func (q *intake) tryTake() (batch []*arrival, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for bytes := 0; q.len() > 0 && len(batch) < min(batchMessages, q.max) && bytes < batchBytes; {
		from := &q.fleeting
		if from.len() == 0 || q.kept.len() > 0 && q.kept.first().order < from.first().order {
			from = &q.kept
		}
		a := from.pop()
		bytes += a.size()
		q.bytes -= a.size()
		batch = append(batch, a)
	}
	q.bridge.Held(-len(batch))
	if len(batch) == 0 && q.refused {
		select {
		case q.again <- struct{}{}:
		default:
		}
	}
	return batch, q.closed
}

// settle acknowledges a message that was dealt with.
func (q *intake) settle(a *arrival) {
	if a.id == 0 {
		return
	}
	q.mu.Lock()
	ack := a.ack
	a.payload = nil
	if q.unacked[a.id] == a {
		if a.from.alive.Load() {
			delete(q.unacked, a.id)
		} else {
			a.settled = true
		}
	}
	q.mu.Unlock()
	ack()
}

// close takes no more messages.
func (q *intake) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

// left gives how many messages of QoS 0 wait, to be lost, and how many that
// the MQTT broker will send again.
func (q *intake) left() (fleeting, kept int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fleeting.len(), q.kept.len()
}

// mqttSession is one connection to the MQTT broker.
type mqttSession struct{ alive atomic.Bool }
