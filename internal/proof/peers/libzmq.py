"""Sockets of libzmq, through pyzmq, driven over standard input (remote.py).
Frames travel as base64; those of the feed, which are text, as text."""

import base64
import json
import random
import time

import zmq
from zmq.utils.monitor import parse_monitor_message

import remote

context = zmq.Context()
sockets = {}
monitors = {}
events = {}

EVENTS = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "connected",
    zmq.EVENT_DISCONNECTED: "disconnected",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "failed",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "failed",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "failed",
}


def bind(name, type, url):
    """Makes a socket that others connect to."""
    sockets[name] = s = context.socket(getattr(zmq, type))
    s.setsockopt(zmq.LINGER, 0)
    s.bind(url)


def open_(name, type, url, options=None, subscribe=()):
    """Makes a socket and connects it; options are set before that.

    Without a high-water mark, unless options name one: above its own 1000 a
    PUB socket of libzmq drops, and what the broker loses could not be told
    from what never left this process.
    """
    s = context.socket(getattr(zmq, type))
    s.setsockopt(zmq.LINGER, 0)
    s.setsockopt(zmq.SNDHWM, 0)
    s.setsockopt(zmq.RCVHWM, 0)
    for option, value in (options or {}).items():
        s.setsockopt(getattr(zmq, option), value.encode() if isinstance(value, str) else value)
    for prefix in subscribe:
        subscribe_(s, prefix)
    sockets[name], events[name] = s, {"connected": 0, "disconnected": 0, "failed": 0}
    monitors[name] = s.get_monitor_socket()
    s.connect(url)


def subscribe_(s, prefix):
    if s.type == zmq.XSUB:
        s.send(b"\x01" + prefix.encode())
    else:
        s.setsockopt(zmq.SUBSCRIBE, prefix.encode())


def close(name):
    sockets[name].disable_monitor()
    monitors.pop(name).close(0)
    sockets.pop(name).close(0)


def await_event(name, event, count, timeout):
    """Waits until event was seen count times; tells how often each was."""
    deadline = time.monotonic() + timeout
    while events[name][event] < count and monitors[name].poll(max(0, deadline - time.monotonic()) * 1000):
        read_event(name)
    while monitors[name].poll(0):
        read_event(name)
    return events[name]


def read_event(name):
    kind = EVENTS.get(parse_monitor_message(monitors[name].recv_multipart())["event"])
    if kind:
        events[name][kind] += 1


def send(name, frames, timeout):
    s = sockets[name]
    if not s.poll(timeout * 1000, zmq.POLLOUT):
        return False
    s.send_multipart([base64.b64decode(f) for f in frames])
    return True


def recv(name, timeout):
    """The next message, or null."""
    s = sockets[name]
    if not s.poll(timeout * 1000):
        return None
    return [base64.b64encode(f).decode() for f in s.recv_multipart()]


def collect(name, most, timeout, rate=0, brief=False):
    """What comes, most messages of it at most and rate a second (0: as fast as
    they come), until nothing has come for timeout seconds. Brief leaves the
    padding of publish out."""
    s, got, began = sockets[name], [], time.monotonic()
    while len(got) < most and s.poll(timeout * 1000):
        got.append(s.recv().decode())
        if rate:
            pace(began + len(got) / rate)
    return [without_padding(m) for m in got] if brief else got


def without_padding(message):
    message = json.loads(message)
    if message["type"] == "thing_update":
        del message["data"]["padding"]
    elif message["type"] == "thing_snapshot":
        message["data"] = {}
    return json.dumps(message)


def pace(until):
    if (ahead := until - time.monotonic()) > 0:
        time.sleep(ahead)


noise = "".join(random.choices("0123456789abcdef", k=1 << 16))


def publish(name, first, count, things, size, rate=0):
    """Sends count updates, numbered from first, in turns to so many Things
    under "load", with size bytes of padding, at rate a second (0: as fast as
    they are taken)."""
    s, began = sockets[name], time.monotonic()
    for i in range(count):
        n = first + i
        padding = noise[n % 4096:n % 4096 + size]
        update = {"type": "thing_update", "ns": "load.t%d" % (n % things), "ts": time.time(),
                  "data": {"n": n, "padding": padding}, "documentation_url": None}
        s.send_string(json.dumps(update))
        if rate:
            pace(began + (i + 1) / rate)


def late_joiner(url, things):
    """Subscribes to everything with a new socket; gives the seconds until it
    was connected, and until the whole directory had come and was decoded."""
    s = context.socket(zmq.SUB)
    s.setsockopt(zmq.LINGER, 0)
    m = s.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    s.setsockopt(zmq.SUBSCRIBE, b"")
    began = time.monotonic()
    s.connect(url)
    directory = {}
    while len(directory) < things and s.poll(10000):
        message = json.loads(s.recv())
        if message["type"] == "thing_snapshot":
            directory.update(message["data"])
    took = time.monotonic() - began
    s.disable_monitor()
    m.close(0)
    s.close(0)
    return {"seconds": took, "things": sorted(directory)}


remote.serve({
    "open": open_, "bind": bind, "close": close, "await_event": await_event, "send": send, "recv": recv,
    "collect": collect, "publish": publish, "late_joiner": late_joiner,
    "subscribe": lambda name, prefix: subscribe_(sockets[name], prefix),
    "version": zmq.zmq_version,
})
