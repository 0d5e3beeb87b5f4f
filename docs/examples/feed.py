"""Feeds a reading every second, with pyzmq alone.

    pip install pyzmq
    python feed.py [HOST] [THING]
"""

import random
import sys
import time

import zmq

HOST = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
THING = sys.argv[2] if len(sys.argv) > 2 else "workshop.bench"

context = zmq.Context()
socket = context.socket(zmq.XPUB)  # a PUB socket that sees who subscribes
socket.setsockopt(zmq.LINGER, 2000)  # ms that closing waits for what is on its way
socket.connect(f"tcp://{HOST}:7955")  # input: the main port + 1
socket.recv()  # the broker has subscribed: from now on nothing is lost on the way

try:
    while True:
        socket.send_json({
            "type": "thing_update",
            "ns": THING,
            "data": {"temperature": round(random.gauss(21, 0.5), 2)},
            "ts": time.time(),  # None leaves the time to the broker
            "documentation_url": None,
        })
        time.sleep(1)
except KeyboardInterrupt:
    pass
finally:
    context.destroy()
