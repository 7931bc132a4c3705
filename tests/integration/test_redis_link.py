"""The link to a real Redis under loss, silence, restart and cuts (R12, R13, R14, F1 to F6)."""

import json
import signal

import pytest

import harness
from harness import Refused, Sse, WebSocket, wait_for

QUICK = ["--redis-ping", "200ms", "--redis-dead", "2s"]
SURE = ["--redis-dead", "10m"]  # lost is only what the test cuts, however slow Redis answers


def down_and_up(sse, losing, returning):
    """An SSE client is told both, gets a gap with a new id, and stays connected."""
    before = sse.last_id
    losing()
    event = sse.named("broker")
    assert json.loads(event.data)["state"] == "down"
    returning()
    seen = [sse.named("broker", "gap") for _ in range(2)]
    assert {e.name for e in seen} == {"broker", "gap"}, seen
    for e in seen:
        if e.name == "broker":
            assert json.loads(e.data)["state"] == "up"
        else:
            assert e.id and e.id != before
    return sse


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_clients_stay_and_are_told_and_get_what_follows(gateway, own_redis, channel, workers, how):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--workers", workers, *QUICK)
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()

    def lose():
        redis.kill() if how == "kill" else redis.freeze()
        g.wait_unready()
        refused = g.publish(channel, "pretend")
        assert refused.status == 503, refused
        assert {"error", "hint"} <= set(refused.json())

    def give_back():
        redis.start() if how == "kill" else redis.thaw()
        g.wait_ready()
        redis.wait_subscribed(channel)

    down_and_up(sse, lose, give_back)
    assert redis.publish(channel, "back") >= 1
    assert ws.payload() == b"back"
    assert sse.named("message").payload == b"back"
    metrics = g.metrics()
    assert metrics["broker_losses_total"] >= 1
    assert metrics["broker_connects_total"] >= 2
    assert metrics["gaps_total"] >= 2
    assert metrics["broker_up"] == 1


def test_a_killed_subscriber_link_is_a_gap_and_nothing_more(gateway, shared_redis, own_redis,
                                                            channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *SURE)
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    for i in range(5):
        losses = g.metric("broker_losses_total")
        redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        g.wait_metric("broker_losses_total", lambda n, was=losses: n > was)
        redis.wait_subscribed(channel)
        g.wait_ready()
        assert sse.named("gap").id
        redis.publish(channel, str(i))
        assert ws.payload() == str(i).encode()
        assert sse.named("message").payload == str(i).encode()


def test_all_links_killed_again_and_again_under_load(gateway, own_redis, check, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *SURE)
    what = ["--messages", 4000, "--prefix", channel, "--allow-gaps"]
    told = check(g, "--sse", 50, "--publish", "none", *what, deadline=60).ready()
    untold = check(g, "--ws", 50, "--publish", f"redis:{redis.port}", "--rate", 1000, *what,
                   deadline=60).ready()
    for _ in range(8):
        wait_for(lambda: redis.subscribers(), "the gateway is subscribed")
        redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for process in (told, untold):
        result = process.outcome()
        wrong = ["duplicates", "corrupt", "wrong_channel", "closed_early", "protocol_errors"]
        assert not any(result[name] for name in wrong), result
        if process is told:
            assert result["gaps"] == 0 and result["told_gaps"] > 0, result


def test_everything_is_subscribed_again_in_batches(gateway, own_redis, check, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *SURE)
    process = check(g, "--ws", 1000, "--channels", 1000, "--messages", 1, "--prefix", channel,
                    "--publish", "none").ready()
    redis.kill()
    g.wait_unready()
    redis.start()
    wait_for(lambda: len(redis.client.pubsub_channels(channel + "*")) == 1000, "all subscribed")
    assert redis.calls("subscribe") <= 100, "one by one"
    for i in range(1000):
        assert redis.publish(f"{channel}{i}", harness.made_payload(f"{channel}{i}", 0)) == 1
    process.verify()


def test_clients_that_connect_while_redis_is_down(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--subscribe-timeout", "300ms", *SURE)
    redis.kill()
    g.wait_unready()
    with pytest.raises(Refused) as refused:
        WebSocket(g, f"/ws/{channel}")
    assert refused.value.status == 503
    assert int(refused.value.answer.headers["Retry-After"]) >= 1
    sse = Sse(g, f"/sse/{channel}")
    assert json.loads(sse.named("broker").data)["state"] == "down"
    redis.start()
    sse.named("position", "gap")
    redis.wait_subscribed(channel)
    redis.publish(channel, "late but live")
    assert sse.named("message").payload == b"late but live"
    assert WebSocket(g, f"/ws/{channel}")


def test_a_gateway_that_starts_without_redis_becomes_ready_with_it(gateway, channel, own_redis):
    port = harness.free_port()
    g = gateway("--redis", f"redis://127.0.0.1:{port}", ready=False)
    g.wait_unready()
    assert g.get("/healthz").status == 200
    sse = Sse(g, f"/sse/{channel}")
    assert json.loads(sse.named("broker").data)["state"] == "down"
    redis = own_redis(port=port)
    g.wait_ready()
    sse.named("position", "gap")
    redis.publish(channel, "hello")
    assert sse.named("message").payload == b"hello"


def test_a_client_that_gives_up_waiting_leaves_nothing(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--linger", "50ms", "--history-ttl", "50ms",
                "--subscribe-timeout", "10m", *SURE)
    redis.freeze()
    waiting = WebSocket(g, f"/ws/{channel}", ask=False)
    waiting.ask()
    g.wait_metric("channels", 1)
    waiting.reset()
    redis.thaw()
    g.wait_ready()
    g.wait_metric("channels", 0)
    wait_for(lambda: redis.numsub(channel) == 0, "NUMSUB is 0")


def test_the_duplex_route_refuses_while_redis_is_down(gateway, own_redis, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, *SURE)
    chat = WebSocket(g, f"/chat/{channel}")
    redis.kill()
    g.wait_unready()
    chat.text("swallow me")
    assert chat.ended().code == 1013


def test_redis_never_waits_for_our_clients(gateway, own_redis, check, channel):
    """R14: with a stopped fleet Redis' output buffer for us stays empty."""
    redis = own_redis()
    g = gateway("--redis", redis.url, "--log-bytes", "1MiB", *SURE)
    fleet = check(g, "--ws", 100, "--sse", 100, "--messages", 1, "--prefix", channel, "--publish",
                  "none").ready()
    fleet.stop()
    payload = b"x" * 100000
    for _ in range(300):
        redis.publish(channel, payload)
    wait_for(lambda: all(int(c["omem"]) == 0 for c in redis.subscribers()), "omem is 0")
    assert len(redis.subscribers()) == 1
    assert g.metric("broker_losses_total") == 0


def test_being_cut_by_the_output_buffer_limit_is_a_reconnect_and_a_gap(gateway, own_redis, channel):
    redis = own_redis()
    redis.client.config_set("client-output-buffer-limit", "pubsub 256kb 64kb 1")
    g = gateway("--redis", redis.url, "--log-bytes", "64MiB", *SURE)
    sse = Sse(g, f"/sse/{channel}").acked()
    g.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(200):
            redis.publish(channel, b"x" * 100000)
        wait_for(lambda: not redis.subscribers(), "Redis cut the link")
    finally:
        g.process.send_signal(signal.SIGCONT)
    g.wait_metric("broker_losses_total", lambda n: n >= 1)
    reader = harness.Background(sse.named, "gap")
    assert reader.result().id
    redis.wait_subscribed(channel)
    g.wait_ready()
    redis.publish(channel, "after the cut")
    assert wait_for(lambda: sse.named("message").payload == b"after the cut", "live again")
    assert b"client-output-buffer-limit" in g.log()


@pytest.mark.parametrize("where", ["password", "acl", "unix", "db"])
def test_every_way_to_reach_redis(gateway, own_redis, tmp_path, channel, where):
    if where == "password":
        redis = own_redis(password="p@ss:w/ord")
        url = f"redis://:p%40ss%3Aw%2Ford@127.0.0.1:{redis.port}"
    elif where == "acl":
        redis = own_redis()
        redis.client.execute_command("ACL", "SETUSER", "tram", "on", ">secret", "&*", "+@all")
        redis.client.execute_command("ACL", "SETUSER", "default", "nopass", "on")
        url = f"redis://tram:secret@127.0.0.1:{redis.port}"
    elif where == "unix":
        redis = own_redis(unix=tmp_path / "redis.sock")
        url = f"redis+unix://{tmp_path}/redis.sock"
    else:
        redis = own_redis()
        url = f"redis://127.0.0.1:{redis.port}/3"
    g = gateway("--redis", url)
    ws = WebSocket(g, f"/ws/{channel}")
    assert redis.publish(channel, "x") == 1
    assert ws.payload() == b"x"
    assert g.publish(channel, "y").json()["receivers"] == 1
    assert ws.payload() == b"y"
    users = {c["user"] for c in redis.subscribers()}
    assert users == ({"tram"} if where == "acl" else {"default"})
    if where == "db":
        assert {c["db"] for c in redis.client.client_list() if c["cmd"] != "client"} <= {"3", "0"}


def test_a_wrong_password_is_one_line_and_is_retried_slowly(gateway, own_redis):
    redis = own_redis(password="right")
    g = gateway("--redis", f"redis://:wrong@127.0.0.1:{redis.port}", ready=False)
    wait_for(lambda: b"WRONGPASS" in g.log(), "the refusal is logged")
    g.wait_unready()
    g.wait_metric("broker_refusals_total", lambda n: n >= 1)
    assert b"wrong@" not in g.log()
    assert g.log().count(b"WRONGPASS") <= 3


def test_an_acl_that_forbids_a_channel_refuses_its_clients_only(gateway, own_redis):
    redis = own_redis()
    redis.client.execute_command("ACL", "SETUSER", "tram", "on", ">secret", "resetchannels",
                                 "&tram_*", "+@all")
    g = gateway("--redis", f"redis://tram:secret@127.0.0.1:{redis.port}")
    allowed = WebSocket(g, "/ws/tram_1")
    with pytest.raises(Refused) as refused:
        WebSocket(g, "/ws/secret_1")
    assert refused.value.status in (403, 503)
    redis.publish("tram_1", "x")
    assert allowed.payload() == b"x"
    assert b"NOPERM" in g.log()
    assert g.publish("secret_1", "x").status in (403, 503)
    assert g.get("/readyz").status == 200


@pytest.mark.soak
def test_fifty_kills_under_load(gateway, own_redis, check, channel):
    redis = own_redis()
    g = gateway("--redis", redis.url, "--workers", 2, *SURE)
    sse = Sse(g, f"/sse/{channel}").acked()
    fleet = check(g, "--ws", 1000, "--sse", 200, "--prefix", channel, "--messages", 1, "--publish",
                  "none", "--allow-gaps", deadline=300).ready()
    for i in range(50):
        redis.kill()
        g.wait_unready()
        redis.start()
        g.wait_ready()
        redis.wait_subscribed(channel)
        assert sse.named("gap").id
    assert redis.publish(channel, harness.made_payload(channel, 0)) == 1
    result = fleet.verify()
    assert result["complete"] == 1200
