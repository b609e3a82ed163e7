"""KV events as a router sees them: decoded by structs declared as vLLM 0.26 declares its own, over
the sockets of a real daemon."""

import time

import httpx
import msgspec
import pytest
import zmq
from daemon import Daemon, new_key, wait_until

TOPIC = "kv@127.0.0.1@SmolLM2-135M-Instruct"
# One longest sequence of 512 tokens is 32 blocks of 368,640 bytes; the device has 36.
SMALL = ["--context-tokens", "512", "--kv-device-bytes", str(36 * 368640)]
STORY = "Once upon a time, in a small village by the sea, there lived a clockmaker. " * 8


class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    ts: float
    events: list
    data_parallel_rank: int | None = None


class KVCacheEvent(msgspec.Struct, omit_defaults=True, gc=False, tag=True):
    pass


class BlockStored(KVCacheEvent):
    block_hashes: list[bytes | int]
    parent_block_hash: bytes | int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None


class BlockRemoved(KVCacheEvent):
    block_hashes: list[bytes | int]
    medium: str | None


class AllBlocksCleared(KVCacheEvent):
    pass


class KVEventBatch(EventBatch):
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]


decode = msgspec.msgpack.Decoder(type=KVEventBatch).decode


class Router:
    """Follows one daemon from its first event on, by replay, and knows what it has."""

    def __init__(self, folder):
        self.context = zmq.Context()
        self.replays = self.context.socket(zmq.DEALER)
        self.replays.connect(f"ipc://{folder}/replay")
        self.live = self.context.socket(zmq.SUB)
        self.live.setsockopt_string(zmq.SUBSCRIBE, "kv@")
        self.live.connect(f"ipc://{folder}/events")
        self.next = self.heard = 0
        self.blocks = {}  # hash: (parent, tokens)
        self.media = {}  # hash: media
        self.cleared = 0
        self.replay()

    def replay(self):
        """From the next number on; how many batches came."""
        self.replays.send_multipart([b"", self.next.to_bytes(8, "big")])
        count = 0
        while True:
            assert self.replays.poll(30_000)
            empty, topic, number, payload = self.replays.recv_multipart()
            assert empty == b""
            if int.from_bytes(number, "big", signed=True) == -1:
                assert topic == payload == b""
                return count
            self.apply(topic, number, payload)
            count += 1

    def listen(self, patience=0.3):
        """What comes until nothing does, and what was missed, as before the subscription was there."""
        while self.live.poll(patience * 1000):
            topic, number, payload = self.live.recv_multipart()
            self.heard += 1
            if int.from_bytes(number, "big") > self.next:
                self.replay()
            if int.from_bytes(number, "big") == self.next:  # else replayed already
                self.apply(topic, number, payload)
        self.replay()

    def apply(self, topic, number, payload):
        assert topic.decode() == TOPIC
        assert int.from_bytes(number, "big") == self.next, "a gap"
        self.next += 1
        batch = decode(payload)
        assert abs(batch.ts - time.time()) < 600 and batch.data_parallel_rank == 0
        for event in batch.events:
            match event:
                case AllBlocksCleared():
                    self.blocks, self.media = {}, {}
                    self.cleared += 1
                case BlockStored():
                    self.store(event)
                case BlockRemoved():
                    for block in event.block_hashes:
                        self.media[block].remove(event.medium)
                        if not self.media[block]:
                            del self.media[block], self.blocks[block]

    def store(self, event):
        assert event.block_size == 16
        assert len(event.token_ids) == 16 * len(event.block_hashes)
        parent = event.parent_block_hash
        assert parent is None or parent in self.blocks
        for i, block in enumerate(event.block_hashes):
            self.blocks[block] = (parent, tuple(event.token_ids[16 * i:16 * i + 16]))
            assert event.medium not in self.media.setdefault(block, set())
            self.media[block].add(event.medium)
            parent = block

    def chain(self, tokens):
        """Hashes of the leading blocks of these tokens that the daemon has, as a prefix lookup
        would find them."""
        by_content = {content: block for block, content in self.blocks.items()}
        found, parent = [], None
        for i in range(0, len(tokens) - 15, 16):
            block = by_content.get((parent, tuple(tokens[i:i + 16])))
            if block is None:
                break
            found.append(block)
            parent = block
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.destroy(linger=0)


def events_at(folder, more=""):
    return (f"kv:\n  events:\n    endpoint: ipc://{folder}/events\n"
            f"    replay_endpoint: ipc://{folder}/replay\n    topic: {TOPIC}\n{more}")


def complete(daemon, prompt, key=None, **more):
    answer = httpx.post(daemon.url + "/v1/completions", timeout=120,
                        headers={"authorization": f"Bearer {key}"} if key else {},
                        json={"prompt": prompt, "temperature": 0, "max_tokens": 1, **more})
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def tokens_of(daemon, prompt):
    answer = httpx.post(daemon.url + "/tokenize", json={"prompt": prompt})
    assert answer.status_code == 200, answer.text
    return answer.json()["tokens"]


def test_blocks_are_told_with_their_tokens_and_parents_and_their_removal(tmp_path):
    with Daemon(*SMALL, config=events_at(tmp_path)) as daemon, Router(tmp_path) as router:
        one, other = STORY + "What did he do?", STORY + "Where did he live?"
        assert router.cleared == 1 and not router.blocks, "a daemon that begins has nothing"
        num_tokens, _ = complete(daemon, one)
        router.listen()
        first = router.chain(tokens_of(daemon, one))
        assert len(first) == num_tokens // 16 == len(router.blocks)
        num_tokens, cached = complete(daemon, other)
        router.listen()
        second = router.chain(tokens_of(daemon, other))
        assert len(second) == num_tokens // 16
        shared = [a for a, b in zip(first, second) if a == b]
        assert 16 * len(shared) == cached > 0, "what the events say is there is what is found"
        assert set(first) | set(second) == set(router.blocks)
        assert set(map(frozenset, router.media.values())) == {frozenset({"GPU"})}

        for i in range(4):  # push all of it out
            complete(daemon, f"{i} {i * 7919} " * 60)
        router.listen()
        assert not router.chain(tokens_of(daemon, one))
        assert complete(daemon, one)[1] == 0
        router.listen()
        assert router.heard > 0
        blocks = router.blocks
        with Router(tmp_path) as late:  # hears of the past alone
            assert late.next == router.next and late.blocks == blocks
        for name in ("holdfast_server_kv_events_dropped_total",
                     "holdfast_server_kv_event_batches_missed_total"):
            assert daemon.metric(name) == 0
        assert daemon.metric("holdfast_server_kv_event_batches_total") == router.next
        assert daemon.terminate() == 0


def test_a_block_has_the_same_hash_in_every_daemon_and_another_for_each_tenant(tmp_path):
    keys = {name: new_key(name) for name in ("blue", "red")}
    tenants = "tenants:\n" + "".join(f'  - {{name: {name}, keys: ["{digest}"]}}\n'
                                     for name, (_, digest) in keys.items())
    hashes = []
    for _ in range(2):
        with Daemon(*SMALL, config=events_at(tmp_path, tenants)) as daemon, \
                Router(tmp_path) as router:
            told = {}
            for name, (key, _) in keys.items():
                before = set(router.blocks)
                complete(daemon, STORY, key)
                router.listen()
                told[name] = sorted(set(router.blocks) - before)
            assert len(told["blue"]) == len(told["red"]) > 0
            hashes.append(told)
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]["blue"]) & set(hashes[0]["red"])


def test_lower_tiers_have_media_of_their_own_and_a_restart_tells_what_is_on_disk(tmp_path):
    (tmp_path / "kv").mkdir()
    arguments = [*SMALL, "--kv-host-bytes", "6MiB", "--kv-disk-path", str(tmp_path / "kv"),
                 "--kv-disk-bytes", "1GiB"]
    with Daemon(*arguments, config=events_at(tmp_path)) as daemon, Router(tmp_path) as router:
        seen = set()
        for i in range(6):
            complete(daemon, f"{i} {i * 7919} " * 60)
            assert wait_until(lambda: daemon.metric("holdfast_kvstore_moves_under_way") == 0)
            router.listen()
            for media in router.media.values():
                seen |= media
        assert seen == {"GPU", "CPU", "STORAGE"}
        assert daemon.terminate() == 0
    with Daemon(*arguments, config=events_at(tmp_path)) as daemon, Router(tmp_path) as router:
        router.listen()
        tokens = tokens_of(daemon, "0 0 " * 60)
        assert router.cleared == 1
        assert {frozenset(media) for media in router.media.values()} == {frozenset({"STORAGE"})}
        found = router.chain(tokens)
        assert found
        assert complete(daemon, "0 0 " * 60)[1] == min(16 * len(found), (len(tokens) - 1) // 16 * 16)


def test_without_an_endpoint_nothing_is_there(daemon):
    assert "kv_event" not in daemon.get("/metrics")[1]


@pytest.mark.parametrize("endpoint, said", [("tcp://0.0.0.0:5557", "allow_network"),
                                            ("ipc:///nowhere/at/all", "cannot be listened on")])
def test_an_endpoint_that_cannot_be_is_refused_at_start(endpoint, said):
    with pytest.raises(RuntimeError, match=said):
        Daemon(config=f"kv: {{events: {{endpoint: '{endpoint}'}}}}\n")
