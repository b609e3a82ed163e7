"""Clients that vanish: connections that end with a reset, in bulk."""

import json
import random
import select
import socket
import struct

from daemon import Daemon, wait_until

WHOLE = 150  # requests of a burst that are sent to their end


def in_scheduler(daemon):
    return (daemon.metric("vllm:num_requests_running")
            + daemon.metric("vllm:num_requests_waiting"))


def reset_many(daemon, rng, taken):
    """200 connections with a streamed request each, reset at whatever place they are once some
    have begun and `taken` run or wait."""
    sockets = []
    for i in range(200):
        body = json.dumps({"messages": [{"role": "user", "content": f"Tell me about {i}."}],
                           "stream": True, "max_tokens": 500, "ignore_eos": True}).encode()
        request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        one = socket.create_connection(("127.0.0.1", daemon.http), timeout=60)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.sendall(request if i % 4 else request[:rng.randrange(1, len(request))])
        sockets.append(one)
    assert wait_until(lambda: in_scheduler(daemon) >= taken)
    assert select.select(sockets, [], [], 60)[0]
    for one in sockets:
        one.close()  # with a RST
    assert wait_until(lambda: in_scheduler(daemon) == 0
                      and daemon.metric("holdfast_http_connections") <= 1)


def test_two_hundred_resets_leave_nothing_behind():
    rng = random.Random(1)
    with Daemon("--kv-device-bytes", "64MiB", "--context-tokens", "2048") as daemon:
        daemon.fill_memory()
        # The heap is at its largest while all are there at once. Of two bursts, for it is trimmed
        # ten seconds after the start, and right behind that too little is seen.
        full = []
        for _ in range(2):
            reset_many(daemon, rng, taken=WHOLE)
            full.append(daemon.resident_bytes())
        for _ in range(3):
            reset_many(daemon, rng, taken=0)
        assert daemon.metric("holdfast_kvstore_blocks", state="held") == 0
        assert daemon.resident_bytes() < max(full) * 1.05
        assert daemon.get("/health/ready")[0] == 200
