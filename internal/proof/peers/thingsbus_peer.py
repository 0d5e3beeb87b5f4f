"""thingsbus 0.2.1, unmodified, as adaptor and as client, driven over standard
input (remote.py)."""

import collections
import json
import socket
import time

import msgpack
import thingsbus.adaptor
import thingsbus.client

import remote

FLAGS = {"none": thingsbus.client.F_NONE, "snapshot": thingsbus.client.F_SNAPSHOT,
         "tree": thingsbus.client.F_TREE,
         "tree+snapshot": thingsbus.client.F_TREE | thingsbus.client.F_SNAPSHOT}

adaptors, clients, heard = {}, {}, collections.defaultdict(list)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def adaptor(ns, url):
    adaptors[ns] = thingsbus.adaptor.Adaptor(ns, "http://example.com/" + ns, broker_input_url=url)


def send(ns, data, below=None, ts=None):
    adaptors[ns].send(data, ns=below, ts=ts)


def send_udp(port, message, use_bin_type):
    """One msgpack object as a datagram: what the broker's UDP input takes.
    thingsbus has no sender of its own for it."""
    datagrams.sendto(msgpack.packb(message, use_bin_type=use_bin_type), ("127.0.0.1", port))


def client(name, url, listen):
    """Starts a client; what its listeners hear is kept under name/flags."""
    clients[name] = c = thingsbus.client.Client(broker_url=url)
    for ns, flags in listen:
        key = "%s/%s/%s" % (name, ns, flags)
        c.directory.get_thing(ns).subscribe(
            lambda event, key=key: heard[key].append(
                {"ns": event.thing.ns, "ts": event.ts, "data": event.data, "snapshot": event.is_snapshot}),
            flags=FLAGS[flags])


def stop_client(name):
    c = clients.pop(name)
    c.stop()
    c.join()


def get_data(name, ns):
    """What the client knows of a Thing: its age and data, or null."""
    found = clients[name].directory.get_thing(ns)
    data = found.get_data()
    return None if data is None else {"age": data[0], "data": data[1], "doc": found.documentation_url}


remote.serve({
    "adaptor": adaptor, "send": send, "send_udp": send_udp, "client": client, "stop_client": stop_client,
    "get_data": get_data, "heard": lambda key: heard[key],
    "alive": lambda: all(c.is_alive() for c in clients.values()) and all(a.is_alive() for a in adaptors.values()),
    "versions": lambda: {"msgpack": ".".join(map(str, msgpack.version))},
})
