"""Reacts to one Thing and all below it. The broker sends nothing else.

    pip install pyzmq
    python subtree.py THING [HOST]
"""

import sys

import zmq

if len(sys.argv) < 2:
    sys.exit("usage: python subtree.py THING [HOST]")
THING = sys.argv[1]
HOST = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"

context = zmq.Context()
socket = context.socket(zmq.SUB)
# A subscription is the beginning of a message. This one is the Thing itself …
socket.subscribe(f'{{"type": "thing_update", "ns": "{THING}"')
# … and this one all that lies below it.
socket.subscribe(f'{{"type": "thing_update", "ns": "{THING}.')
socket.connect(f"tcp://{HOST}:7954")

seen = {}  # thing_seq of each Thing: it counts without a hole
try:
    while True:
        update = socket.recv_json()
        ns, n = update["ns"], update["thing_seq"]
        if n is not None:  # None: the broker's disk refused it
            missed = n - seen.get(ns, n - 1) - 1
            if missed > 0:
                print(f"{ns}: {missed} missed; history has them", file=sys.stderr, flush=True)
            seen[ns] = n
        print(f"{ns} = {update['data']}", flush=True)
except KeyboardInterrupt:
    pass
finally:
    context.destroy(linger=0)
