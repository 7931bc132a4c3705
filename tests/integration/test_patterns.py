"""Patterns that the operator declares: one channel with the whole fleet (DESIGN.md section 9)."""

import pytest

from harness import Sse, WebSocket, wait_for


def test_the_fleet_arrives_on_one_channel_with_names(serve):
    g = serve("--pattern", "fleet tram_*")
    sse, ws = Sse(g, "/sse/fleet").acked(), WebSocket(g, "/ws/fleet")
    single = WebSocket(g, "/ws/tram_5")
    for name, payload in [("tram_5", b"a"), ("tram_17", b"b"), ("bus_1", b"no"), ("tram_5", b"c"),
                          ("tram_9", b"\xff")]:
        assert g.publish(name, payload).status == 200
    events = [sse.named("tram_5", "tram_17", "message", "bus_1", "tram_9;base64") for _ in range(4)]
    assert [(e.name, e.payload) for e in events] == [
        ("tram_5", b"a"), ("tram_17", b"b"), ("tram_5", b"c"), ("tram_9;base64", b"\xff")]
    assert len({e.id for e in events}) == 4
    assert [ws.payload() for _ in range(4)] == [b"a", b"b", b"c", b"\xff"]
    assert [single.payload(), single.payload()] == [b"a", b"c"]


def test_a_rule_may_put_the_name_before_each_payload(serve):
    g = serve("--pattern", "fleet tram_* name")
    ws = WebSocket(g, "/ws/fleet")
    g.publish("tram_5", b"a")
    g.publish("tram_6", b"\xff")
    assert ws.message() == (1, b"tram_5\na")
    assert ws.message() == (2, b"tram_6\n\xff")


def test_a_pattern_is_one_psubscribe(gateway, shared_redis):
    before = shared_redis.calls("psubscribe")
    g = gateway("--redis", shared_redis.url, "--pattern", "all_of_it pattern_x_*", "--linger", "0s",
                "--history-ttl", "0s")
    clients = [WebSocket(g, "/ws/all_of_it") for _ in range(20)]
    assert shared_redis.calls("psubscribe") - before == 1
    assert shared_redis.publish("pattern_x_1", "x") == 1
    assert {c.payload() for c in clients} == {b"x"}
    for c in clients:
        c.close()
    wait_for(lambda: shared_redis.client.pubsub_numpat() == 0, "the pattern is released")


def test_nobody_publishes_to_a_pattern_channel(serve):
    g = serve("--pattern", "fleet tram_*")
    ws = WebSocket(g, "/ws/fleet")
    assert g.publish("fleet", "x").status in (400, 403, 404, 405)
    g.publish("tram_1", "real")
    assert ws.payload() == b"real"


@pytest.mark.race
def test_the_fleet_gets_everything_of_every_channel(serve, check, channel, tmp_path):
    """Many publishers' channels, one aggregate, in the order of publishing."""
    g = serve("--pattern", f"fleet {channel}_*")
    lines = [(f"{channel}_{i % 20}", f"message {i} {'x' * (i % 50)}") for i in range(400)]
    expect = tmp_path / "expect"
    expect.write_text("".join(f"{c}\t{p}\n" for c, p in lines))
    process = check(g, "--expect", expect, "--publish", "none", "--ws", 20, "--sse", 20,
                    "--aggregate", "fleet", "--aggregate-ws", 5, "--aggregate-sse", 5).ready()
    for c, p in lines:
        if serve.redis:
            serve.redis.publish(c, p)
        else:
            g.publish(c, p)
    assert process.verify()["complete"] == 50
