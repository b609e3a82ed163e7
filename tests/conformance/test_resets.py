"""Clients that vanish: connections that end with a reset, in bulk."""

import json
import random
import socket
import struct

from daemon import Daemon, wait_until


def reset_many(daemon, count, rng):
    """`count` connections with a streamed request each, reset at whatever place they are."""
    sockets = []
    for i in range(count):
        body = json.dumps({"messages": [{"role": "user", "content": f"Tell me about {i}."}],
                           "stream": True, "max_tokens": 500, "ignore_eos": True}).encode()
        request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        one = socket.create_connection(("127.0.0.1", daemon.http), timeout=60)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.sendall(request if i % 4 else request[:rng.randrange(1, len(request))])
        sockets.append(one)
    assert sockets[1].recv(1)  # some have begun
    for one in sockets:
        one.close()  # with a RST


def test_two_hundred_resets_leave_nothing_behind():
    rng = random.Random(1)
    with Daemon("--kv-device-bytes", "64MiB", "--context-tokens", "2048") as daemon:
        def settled():
            return wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0
                              and daemon.metric("vllm:num_requests_waiting") == 0
                              and daemon.metric("holdfast_http_connections") <= 1)

        reset_many(daemon, 200, rng)  # fills what is filled once: the pool, buffers, the heap
        assert settled()
        base = daemon.resident_bytes()
        for _ in range(3):
            reset_many(daemon, 200, rng)
            assert settled()
        assert daemon.metric("holdfast_kvstore_blocks", state="held") == 0
        assert daemon.resident_bytes() < base * 1.05
        assert daemon.get("/health/ready")[0] == 200
