"""Replays the last hour and goes on live, without a hole or a double.

    pip install pyzmq
    python follow.py [THING] [HOST]

Prints one update a line, in the order of seq. It goes on over restarts of
the broker. What history no longer holds is reported on stderr.
"""

import json
import random
import sys
import time
from collections import deque

import zmq

THING = sys.argv[1] if len(sys.argv) > 1 else ""  # "" is everything
HOST = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
SILENCE = 15  # s without a word, not even a heartbeat: the broker is gone

context = zmq.Context()


def subscribe():
    """A socket of the live feed, with all that THING and heartbeats need."""
    live = context.socket(zmq.SUB)
    live.setsockopt(zmq.RCVHWM, 0)  # what comes while history is read waits here
    if THING:
        live.subscribe(f'{{"type": "thing_update", "ns": "{THING}"')
        live.subscribe(f'{{"type": "thing_update", "ns": "{THING}.')
    else:
        live.subscribe('{"type": "thing_update"')
    live.subscribe('{"type": "thing_heartbeat"')
    live.connect(f"tcp://{HOST}:7954")
    return live


def replay(question):
    """Yields the head and the lines of each page of an answer."""
    while True:
        ask = context.socket(zmq.REQ)
        ask.setsockopt(zmq.RCVTIMEO, 30_000)
        ask.connect(f"tcp://{HOST}:7956")  # history: the main port + 2
        try:
            ask.send_json({"type": "replay", **question})
            frames = ask.recv_multipart()
        except zmq.Again:
            print("no answer; asking again", file=sys.stderr, flush=True)
            continue
        finally:
            ask.close(linger=0)
        head = json.loads(frames[0])
        if head["type"] == "error":
            if head["code"] == "busy":
                time.sleep(random.uniform(0.5, 1.5))
                continue
            sys.exit(head["message"])
        yield head, frames[1].splitlines()
        if head["next"] is None:
            return
        question = {"cursor": head["next"]}


class Follower:
    def __init__(self):
        self.position = 0  # all that matches up to this seq was handed out
        self.epoch = None  # the name of the broker's history file
        self.counts = {}  # thing_seq of each Thing

    def hand_out(self, line):
        update = json.loads(line)
        if update["seq"] is None:  # the disk refused it: not in history
            print(line.decode(), flush=True)
        elif update["seq"] > self.position:
            self.position = update["seq"]
            self.counts[update["ns"]] = update["thing_seq"]
            print(line.decode(), flush=True)

    def catch_up(self):
        """Reads history from the position to its end."""
        question = {"ns": THING}
        if self.epoch is None:
            question["since"] = -3600  # the last hour
        else:
            question.update(after=self.position, epoch=self.epoch)
        for head, lines in replay(question):
            self.epoch = head["epoch"]
            if head["evicted"]:
                print(f"up to {head['evicted']} updates are no longer in history", file=sys.stderr, flush=True)
            for line in lines:
                self.hand_out(line)
            if head["next"] is None:
                self.position = max(self.position, head["head"])

    def missed(self, message):
        """Tells whether something went past before this message."""
        if message["type"] == "thing_heartbeat":
            return message.get("skipped", 0) > 0
        n, ns = message["thing_seq"], message["ns"]
        if n is None or message["seq"] <= self.position:
            return False
        return n != self.counts.get(ns, n - 1) + 1


def follow():
    follower = Follower()
    while True:
        live = subscribe()
        monitor = live.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        # The first heartbeat tells that the subscription is at work; until
        # then what comes is held.
        held = deque()
        while not held or b'"thing_heartbeat"' not in held[-1]:
            held.append(live.recv())
        if follower.epoch not in (None, json.loads(held[-1])["epoch"]):
            print("another history file: starting over", file=sys.stderr, flush=True)
            follower = Follower()
        follower.catch_up()
        while True:
            if held:
                line = held.popleft()
            elif live.poll(SILENCE * 1000):
                line = live.recv()
            else:
                print("the broker is silent; connecting anew", file=sys.stderr, flush=True)
                break
            if monitor.poll(0):
                # libzmq has connected anew by itself, or soon will. What came
                # meanwhile is missing before this message: fetch it first.
                break
            message = json.loads(line)
            if follower.missed(message):
                time.sleep(random.uniform(0, 0.5))  # not all clients at once
                follower.catch_up()
            if message["type"] == "thing_update":
                follower.hand_out(line)
            else:  # all that matches up to a heartbeat's seq came before it
                follower.position = max(follower.position, message["seq"])
        live.disable_monitor()
        live.close(linger=0)


try:
    follow()
except KeyboardInterrupt:
    pass
finally:
    context.destroy(linger=0)
