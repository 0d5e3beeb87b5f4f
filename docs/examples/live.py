"""Keeps the latest of every Thing: all of them at once, then each change.

    pip install pyzmq
    python live.py [HOST]
"""

import sys
import time

import zmq

HOST = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"

context = zmq.Context()
socket = context.socket(zmq.SUB)
socket.subscribe('{"type": "thing_snapshot"')  # one comes at once, then every 15 s
socket.subscribe('{"type": "thing_update"')
socket.connect(f"tcp://{HOST}:7954")  # live feed: the main port

directory = {}


def show(ns):
    entry = directory[ns]
    print(f"{ns}: {entry['data']} ({time.time() - entry['ts']:.1f} s ago)", flush=True)


try:
    while True:
        message = socket.recv_json()
        if message["type"] == "thing_snapshot":
            for ns, entry in message["data"].items():
                if directory.get(ns, {}).get("received") != entry["received"]:
                    directory[ns] = entry
                    show(ns)
        elif message["type"] == "thing_update":
            directory[message["ns"]] = message
            show(message["ns"])
except KeyboardInterrupt:
    pass
finally:
    context.destroy(linger=0)
