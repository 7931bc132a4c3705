"""The faults that test_faults.py causes: a row each of FAULTS, on each of SOURCES.

A fault is a generator that is given the scene. It causes its trouble, yields until the clients were
told (or for so many seconds at least, if it yields a number), and takes the trouble away.
"""

import dataclasses
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable

import pytest
import redis as redis_client

import harness
from harness import wait_for
from network import Cut


@dataclasses.dataclass(frozen=True)
class Source:
    """A way for messages to reach the gateway."""

    publish: Callable  # (connection to Redis, channel, payload); returns when Redis has it
    role: str          # of the link that messages come on, as its name ends,
    mark: bytes        # and what stands before each of them
    gateway: tuple = ()
    redis: tuple = ()
    keeps: bool = False  # Redis keeps the messages: what outlives the fault is lost to nobody


def publish(link, channel, payload):
    link.send_command("PUBLISH", channel, payload)
    return link.read_response()


def add(link, channel, payload):
    link.send_command("XADD", channel, "*", "data", payload)
    return link.read_response()


FOLLOW = ("--channel", "*: source=stream")
ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")
NOTIFY = ("--notify-keyspace-events", "Kgt")
PUBSUB, STREAM, BLOCKING = "Pub/Sub", "Streams", "Streams, blocking"
SOURCES = {
    PUBSUB: Source(publish, "sub", b"message\r\n"),
    STREAM: Source(add, "streams", b"data\r\n", FOLLOW, (*ON_DISK, *NOTIFY), keeps=True),
    # The same without keyspace notifications: the gateway waits with XREAD BLOCK.
    BLOCKING: Source(add, "streams", b"data\r\n", FOLLOW, ON_DISK, keeps=True),
}
STREAMS = (STREAM, BLOCKING)


# --- ways to have a Redis ---


def plain(s, *arguments, **more):
    return s.another_redis(*s.source.redis, *s.fault.redis, *arguments, **more)


def with_password(s):
    return plain(s, password="first")


def with_user(s):
    redis = plain(s)
    redis.client.execute_command("ACL", "SETUSER", "tram", "on", ">secret", "allchannels", "~*", "+@all")
    return redis


AT_ONCE = ("--repl-diskless-sync-delay", "0")


def follow(replica, master):
    replica.client.replicaof("127.0.0.1", master.port)
    wait_in_step(replica)


def wait_in_step(replica):
    wait_for(lambda: replica.client.info("replication").get("master_link_status") == "up",
             "the replica is in step", 4 * harness.DEADLINE)


def replica(s):
    """The gateway reads from a replica, and messages are published to its master."""
    s.master, redis = plain(s, *AT_ONCE), plain(s)
    follow(redis, s.master)
    publish_to(s, s.master)
    return redis


def publish_to(s, redis):
    s.publish_to, s.keeper = (redis_client.Connection, {"port": redis.port}), redis


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def apart(s):
    """In a network namespace of its own, behind a cable that can be pulled. The publisher has
    another way in."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network namespace takes root and iproute2")
    s.space, near, s.cable = (f"tl{os.getpid()}{end}" for end in "nab")
    net = f"198.18.{os.getpid() % 256}"
    path = tempfile.mkdtemp()
    ip("netns", "add", s.space)
    s.at_end.callback(ip, "netns", "del", s.space)
    ip("link", "add", near, "type", "veth", "peer", "name", s.cable, "netns", s.space)
    s.at_end.callback(ip, "link", "del", near)
    s.at_end.callback(shutil.rmtree, path)
    ip("addr", "add", f"{net}.1/30", "dev", near)
    ip("link", "set", near, "up")
    ip("-n", s.space, "addr", "add", f"{net}.2/30", "dev", s.cable)
    ip("-n", s.space, "link", "set", s.cable, "up")
    s.publish_to = redis_client.UnixDomainSocketConnection, {"path": f"{path}/redis"}
    return plain(s, "--protected-mode", "no", host=f"{net}.2", unix=f"{path}/redis",
                 within=["ip", "netns", "exec", s.space])


@dataclasses.dataclass(frozen=True)
class Fault:
    run: Callable
    name: str             # as the table of docs/reliability.md has it
    on: tuple = tuple(SOURCES)
    quick: tuple = (PUBSUB,)  # the sources with which it is in the plain tier, not in soak only
    breaks: bool = True   # the link that messages come on is lost: everybody is told
    lossless: bool = False  # and here nothing is lost, and nothing told
    keeps: bool = True    # what a source keeps outlives it: there nothing is lost either
    times: int = 1
    proxied: bool = False
    user: str = ""        # what the gateway logs in with, "user:password@"
    make: Callable = plain  # the Redis that the gateway is pointed at
    redis: tuple = ()     # and its arguments
    gateway: tuple = ()
    forbids: int = 0      # channels that Redis stops to serve meanwhile
    may_tell: bool = False  # lossless, but on Pub/Sub nothing proves it


FAULTS = []


def fault(name, **more):
    def add(run):
        FAULTS.append(Fault(run, name, **more))
        return run
    return add


# --- the faults ---


@fault("redis-server killed (SIGKILL) and restarted, 50 times", times=50, quick=())
@fault("redis-server killed (SIGKILL) and restarted, 5 times", times=5, quick=(PUBSUB, *STREAMS))
def killed(s):
    s.redis.kill()
    yield
    s.redis.start()


@fault("redis-server killed, an empty one on its address", keeps=False, quick=(PUBSUB, STREAM))
def replaced(s):
    s.redis.kill()
    yield
    s.redis.directory = s.redis.directory / "other"
    s.redis.directory.mkdir()
    s.redis.start()


@fault("redis-server killed, and back with an older state", on=STREAMS, keeps=False, quick=(STREAM,),
       redis=("--appendonly", "no"))
def regressed(s):
    s.redis.client.save()
    s.wait_flow(10)
    s.redis.kill()
    yield
    s.redis.start()


def freeze(s, seconds):
    s.redis.freeze()
    yield seconds
    s.redis.thaw()


@fault("redis-server stopped (SIGSTOP) for 5 s")
def stopped_5s(s):
    yield from freeze(s, 5)


@fault("redis-server stopped (SIGSTOP) for 60 s", quick=())
def stopped_60s(s):
    yield from freeze(s, 60)


@fault("redis-server stopped for less than --redis-dead", breaks=False, lossless=True,
       gateway=("--redis-dead", "120s"))
def stopped_shortly(s):
    yield from freeze(s, 2)


@fault("all links half open: they carry nothing, new ones work", proxied=True,
       quick=(PUBSUB, STREAM))
def half_open(s):
    s.proxy.swallow()
    yield


@fault("the network swallows everything, new links too", proxied=True)
def swallowed(s):
    s.proxy.swallow(also_new=True)
    yield 3
    s.proxy.swallows_new = False


@fault("CLIENT KILL of the subscriber's link, 3 times", times=3)
def subscriber_killed(s):
    s.admin("CLIENT", "KILL", "TYPE", "pubsub")
    yield


@fault("CLIENT KILL of the link that reads streams, 10 times", times=10, on=STREAMS, quick=STREAMS)
def reader_killed(s):
    s.kill_links("-streams")
    yield


def kill_beside(s, role):
    losses = s.gateway.metric("broker_losses_total")
    wait_for(lambda: s.kill_links(role), "there is one to be killed")
    s.gateway.wait_metric("broker_losses_total", lambda n: n > losses)
    yield


@fault("CLIENT KILL of the link that waits (XREAD BLOCK), 10 times", times=10, on=(BLOCKING,),
       quick=(BLOCKING,), breaks=False)
def waiter_killed(s):
    yield from kill_beside(s, "-shard")


@fault("CLIENT KILL of the publisher's link", breaks=False, lossless=True)
def publisher_killed(s):
    yield from kill_beside(s, "-pub")


@fault("cut off by client-output-buffer-limit pubsub", proxied=True, on=(PUBSUB,),
       gateway=("--log-bytes", "64MiB", "--redis-dead", "120s"))
def overrun(s):
    s.redis.client.config_set("client-output-buffer-limit", "pubsub 256kb 0 0")
    s.proxy.reading.clear()
    s.publisher.size = 100000
    wait_for(lambda: not s.redis.subscribers(), "Redis cuts the link off", 60 * harness.PATIENCE)
    s.began = time.monotonic()
    s.publisher.size = 128
    s.proxy.reading.set()
    yield
    assert b"client-output-buffer-limit" in s.gateway.log()


@fault("cut off by client-output-buffer-limit normal, which stays", proxied=True, on=STREAMS,
       quick=(STREAM,), gateway=("--log-bytes", "64MiB", "--redis-dead", "120s"))
def overrun_reading(s):
    s.redis.client.config_set("client-output-buffer-limit", "normal 256kb 0 0")
    s.proxy.reading.clear()
    s.publisher.size = 100000
    held = [s.redis.client.xlen(name) for name in s.channels]
    wait_for(lambda: all(s.redis.client.xlen(name) > n + 20
                         for name, n in zip(s.channels, held)), "much is to be read")
    s.publisher.size = 128
    s.began = time.monotonic()
    s.proxy.reading.set()
    yield


@fault("maxclients reached when the links come back")
def crowded(s):
    others = [c for c in s.redis.client.client_list() if not c["name"].startswith("tramline-")]
    s.redis.client.config_set("maxclients", len(others))
    s.kill_links("")
    yield
    s.wait_logged(b"max number of clients")
    s.redis.client.config_set("maxclients", 10000)


@fault("the password is changed under way, and back", make=with_password, user=":first@")
def password_changed(s):
    s.redis.client.config_set("requirepass", "second")
    s.kill_links("")
    yield
    s.wait_logged(b"WRONGPASS")
    assert b"first" not in s.gateway.log()
    s.redis.client.config_set("requirepass", "first")


AS_USER = {"make": with_user, "user": "tram:secret@"}


def forbid(s, take, give):
    """What the user may do is taken away, and given back once the first channel's clients know."""
    s.admin("ACL", "SETUSER", "tram", *take)
    yield
    s.wait_logged(b"NOPERM")
    refused = [w for w in s.watchers if w.channel == s.channels[0] and w.stays]
    s.wait_until(lambda: all(w.count("ended", s.began) for w in refused), "its clients are told")
    s.admin("ACL", "SETUSER", "tram", *give)


@fault("an ACL takes one channel away, and gives it back", on=(PUBSUB,), forbids=1, **AS_USER)
def forbidden(s):
    yield from forbid(s, ["resetchannels", *[f"&{c}" for c in s.channels[1:]]], ["allchannels"])


@fault("an ACL takes the key of one stream away, and gives it back", on=STREAMS, quick=STREAMS,
       breaks=False, forbids=1, **AS_USER)
def key_forbidden(s):
    yield from forbid(s, ["resetkeys", *[f"~{c}" for c in s.channels[1:]]], ["allkeys"])


@fault("an ACL takes the notifications away", on=(STREAM,), quick=(STREAM,), **AS_USER)
def bells_forbidden(s):
    s.admin("ACL", "SETUSER", "tram", "resetchannels")
    yield
    s.wait_logged(b"NOPERM")
    looks = s.redis.calls("config|get")
    wait_for(lambda: s.redis.calls("config|get") > looks, "the gateway has looked again")
    s.wait_flow(10)


@fault("an ACL takes XREAD away", on=STREAMS, quick=(BLOCKING,), breaks=False, **AS_USER)
def reading_forbidden(s):
    s.admin("ACL", "SETUSER", "tram", "-xread")
    s.wait_flow(20)
    yield
    s.admin("ACL", "SETUSER", "tram", "+xread")


@fault("LOADING after a restart", redis=("--loading-process-events-interval-bytes", "1024"),
       quick=(PUBSUB, STREAM))
def loading(s):
    with s.redis.client.pipeline(transaction=False) as pipeline:
        for i in range(2000):
            pipeline.set(f"{s.channels[0]}{i}", harness.made_payload("kept", i, 1100))
        pipeline.execute()
    save(s.redis)
    s.redis.kill()
    s.redis.arguments += ["--key-load-delay", "10000", "--rdbcompression", "no"]
    s.redis.start(wait=False)
    yield
    s.wait_logged(b"LOADING")
    s.redis.client.config_set("key-load-delay", 0)
    wait_for(s.redis.answers, "redis-server has loaded")


def save(redis):
    """To a file that is loaded in small steps; what is added afterwards is kept too, if any is."""
    if redis.client.config_get("appendonly")["appendonly"] == "no":
        redis.client.save()
        return
    redis.client.bgrewriteaof()
    wait_for(lambda: not redis.client.info("persistence")["aof_rewrite_in_progress"] and
             not redis.client.info("persistence")["aof_rewrite_scheduled"], "the file is written")


@fault("the node becomes a read-only replica (REPLICAOF)", breaks=False, on=(PUBSUB,))
def demoted(s):
    follow(s.redis, plain(s, *AT_ONCE))
    assert s.redis.client.config_get("replica-read-only")["replica-read-only"] == "yes"
    yield


@fault("the node becomes a read-only replica (FAILOVER)", breaks=False, on=STREAMS,
       quick=(STREAM,), redis=AT_ONCE)
def failed_over(s):
    other = plain(s)
    follow(other, s.redis)
    s.admin("FAILOVER")
    wait_in_step(s.redis)
    publish_to(s, other)
    yield


@fault("a replica loses its link to the master for a moment", breaks=False, lossless=True,
       may_tell=True, make=replica)
def replica_cut(s):
    s.master.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    wait_for(lambda: s.master.client.info("stats")["sync_partial_ok"] == 1, "the replica is back")
    yield


@fault("the master of our replica killed and restarted", breaks=False, make=replica,
       quick=(PUBSUB, STREAM))
def master_killed(s):
    s.master.kill()
    wait_for(lambda: s.redis.client.info("replication")["master_link_status"] == "down", "it is gone")
    wait_gaps(s, 1)
    yield
    s.master.start()
    wait_in_step(s.redis)
    wait_gaps(s, 2)


def wait_gaps(s, n):
    """On Pub/Sub, where the replica's own cut is all that is seen of it."""
    if not s.source.keeps:
        s.wait_until(lambda: all(w.count("told", s.began) >= n for w in s.streams()),
                     "the gap is told")


@fault("the cable to Redis is pulled (veth), and put back", make=apart)
def unplugged(s):
    ip("-n", s.space, "link", "set", s.cable, "down")
    yield 3
    ip("-n", s.space, "link", "set", s.cable, "up")


@fault("a slow network: 300 ms each way", breaks=False, lossless=True, proxied=True,
       gateway=("--redis-ping", "1s", "--redis-dead", "120s"))
def slowed(s):
    s.proxy.latency = 0.3
    yield 2
    s.proxy.latency = 0.0


def cut(s, how, role=None, mark=None, place=None):
    """place: of what has come, 0 to 1; without, the middle of its last message."""
    s.proxy.cut = Cut(how, role or s.source.role, mark or s.source.mark, place)
    wait_for(lambda: not s.proxy.cut, "it is cut")
    yield


@fault("an answer cut in its middle, the link closed", proxied=True)
def cut_and_closed(s):
    yield from cut(s, "end")


@fault("an answer cut in its middle, the link reset", proxied=True)
def cut_and_reset(s):
    yield from cut(s, "reset")


@fault("answers of XREAD cut at 10 places, links closed and reset", proxied=True, on=STREAMS,
       quick=(STREAM,), times=10)
def cut_anywhere(s):
    yield from cut(s, ("end", "reset")[s.round % 2], place=(s.round % 10 + 0.5) / 10)


@fault("notifications cut in their middle, 5 times", proxied=True, on=(STREAM,), quick=(), times=5)
def bell_cut(s):
    yield from cut(s, "end", "sub", b"message\r\n")


@fault("answers of XREAD BLOCK cut at 10 places", proxied=True, on=(BLOCKING,), quick=(BLOCKING,),
       times=10, breaks=False)
def waiter_cut(s):
    yield from cut(s, ("end", "reset")[s.round % 2], "shard", place=(s.round % 10 + 0.5) / 10)
