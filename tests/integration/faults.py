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


@dataclasses.dataclass(frozen=True)
class Source:
    """A way for messages to reach the gateway."""

    publish: Callable  # (connection to Redis, channel, payload); returns when Redis has it
    gateway: tuple = ()
    redis: tuple = ()


def publish(link, channel, payload):
    link.send_command("PUBLISH", channel, payload)
    return link.read_response()


SOURCES = {"Pub/Sub": Source(publish)}


# --- ways to have a Redis ---


def plain(s, *arguments, **more):
    return s.another_redis(*s.source.redis, *s.fault.redis, *arguments, **more)


def with_password(s):
    return plain(s, password="first")


def with_user(s):
    redis = plain(s)
    redis.client.execute_command("ACL", "SETUSER", "tram", "on", ">secret", "allchannels", "+@all")
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
    s.publish_to = redis_client.Connection, {"port": s.master.port}
    return redis


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
    breaks: bool = True   # the subscriber's link is lost: everybody is told
    lossless: bool = False  # and here nothing is lost, and nothing told
    times: int = 1
    proxied: bool = False
    user: str = ""        # what the gateway logs in with, "user:password@"
    make: Callable = plain  # the Redis that the gateway is pointed at
    redis: tuple = ()     # and its arguments
    gateway: tuple = ()
    forbids: int = 0      # channels that Redis stops to serve meanwhile
    blind: bool = False   # the loss lies where the gateway cannot look
    soak: bool = False


FAULTS = []


def fault(name, **more):
    def add(run):
        FAULTS.append(Fault(run, name, **more))
        return run
    return add


# --- the faults ---


@fault("redis-server killed (SIGKILL) and restarted, 50 times", times=50, soak=True)
@fault("redis-server killed (SIGKILL) and restarted, 5 times", times=5)
def killed(s):
    s.redis.kill()
    yield
    s.redis.start()


@fault("redis-server killed, an empty one on its address")
def replaced(s):
    s.redis.kill()
    yield
    s.redis.directory = s.redis.directory / "other"
    s.redis.directory.mkdir()
    s.redis.start()


def freeze(s, seconds):
    s.redis.freeze()
    yield seconds
    s.redis.thaw()


@fault("redis-server stopped (SIGSTOP) for 5 s")
def stopped_5s(s):
    yield from freeze(s, 5)


@fault("redis-server stopped (SIGSTOP) for 60 s", soak=True)
def stopped_60s(s):
    yield from freeze(s, 60)


@fault("redis-server stopped for less than --redis-dead", breaks=False, lossless=True,
       gateway=("--redis-dead", "120s"))
def stopped_shortly(s):
    yield from freeze(s, 2)


@fault("both links half open: they carry nothing, new ones work", proxied=True)
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


@fault("CLIENT KILL of the publisher's link", breaks=False, lossless=True)
def publisher_killed(s):
    losses = s.gateway.metric("broker_losses_total")
    s.kill_links("-pub")
    s.gateway.wait_metric("broker_losses_total", losses + 1)
    yield


@fault("cut off by client-output-buffer-limit", proxied=True,
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


@fault("an ACL takes one channel away, and gives it back", make=with_user, user="tram:secret@",
       forbids=1)
def forbidden(s):
    s.admin("ACL", "SETUSER", "tram", "resetchannels", *[f"&{c}" for c in s.channels[1:]])
    yield
    s.wait_logged(b"NOPERM")
    refused = [w for w in s.watchers if w.channel == s.channels[0]]
    s.wait_until(lambda: all(w.count("ended", s.began) for w in refused), "its clients are told")
    s.admin("ACL", "SETUSER", "tram", "allchannels")


@fault("LOADING after a restart", redis=("--loading-process-events-interval-bytes", "1024"))
def loading(s):
    with s.redis.client.pipeline(transaction=False) as pipeline:
        for i in range(2000):
            pipeline.set(f"{s.channels[0]}{i}", harness.made_payload("kept", i, 1100))
        pipeline.execute()
    s.redis.client.save()
    s.redis.kill()
    s.redis.arguments += ["--key-load-delay", "10000", "--rdbcompression", "no"]
    s.redis.start(wait=False)
    yield
    s.wait_logged(b"LOADING")
    s.redis.client.config_set("key-load-delay", 0)
    wait_for(s.redis.answers, "redis-server has loaded")


@fault("the node becomes a read-only replica (REPLICAOF)", breaks=False)
def demoted(s):
    follow(s.redis, plain(s, *AT_ONCE))
    assert s.redis.client.config_get("replica-read-only")["replica-read-only"] == "yes"
    yield


@fault("a replica loses its link to the master for a moment", breaks=False, lossless=True, make=replica)
def replica_cut(s):
    s.master.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    wait_for(lambda: s.master.client.info("stats")["sync_partial_ok"] == 1, "the replica is back")
    yield


@fault("the master of our replica killed and restarted", breaks=False, blind=True, make=replica)
def master_killed(s):
    s.master.kill()
    wait_for(lambda: s.redis.client.info("replication")["master_link_status"] == "down", "it is gone")
    yield
    s.master.start()
    wait_in_step(s.redis)


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


@fault("an answer cut in its middle, the link closed", proxied=True)
def cut(s):
    s.proxy.cut_how = "end"
    yield


@fault("an answer cut in its middle, the link reset", proxied=True)
def cut_and_reset(s):
    s.proxy.cut_how = "reset"
    yield
