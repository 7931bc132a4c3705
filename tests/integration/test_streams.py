"""Redis Streams as a source: nothing lost, doubled or swapped under restarts, cuts and trims."""

import json
import signal
import threading

import pytest

import harness
from harness import Refused, Sse, WebSocket, wait_for

BELLS = ["--notify-keyspace-events", "Kgt"]
QUICK = ["--redis-ping", "200ms", "--redis-dead", "600ms"]
STREAM = ["--channel", "*: source=stream"]


@pytest.fixture(params=["doorbell", "blocking"])
def stream_redis(request, own_redis):
    """A Redis that sends keyspace notifications, and one that does not."""
    return own_redis(*(BELLS if request.param == "doorbell" else []))


def add(redis, key, *payloads, **more):
    for payload in payloads:
        redis.client.xadd(key, {"data": payload}, **more)


def fill(redis, key, first, last):
    pipe = redis.client.pipeline(transaction=False)
    for i in range(first, last):
        pipe.xadd(key, {"data": b"%d" % i})
    pipe.execute()


def expect(client, first, last):
    """Messages first..last-1 and nothing between; returns the last one's position."""
    for i in range(first, last):
        if isinstance(client, WebSocket):
            assert client.payload() == b"%d" % i
        else:
            event = client.event()
            assert (event.name, event.payload) == ("message", b"%d" % i), event
    return getattr(client, "last_id", None)


def missed(event):
    assert event.name == "gap", event
    return json.loads(event.data)["missed"]


def next_gap(sse):
    """What is told of the link does not matter here."""
    return missed(sse.named("gap", "message"))


@pytest.mark.race
def test_what_is_added_arrives_in_order_and_byte_for_byte(gateway, stream_redis, workers, channel):
    g = gateway("--redis", stream_redis.url, "--workers", workers, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}"), Sse(g, f"/sse/{channel}").acked()
    odd = [b"", b"\0", b"null", b"1.10", b"a\nb", b"\r", b"\xff\xfe", b"{", b"x" * 300000]
    add(stream_redis, channel, *odd)
    for payload in odd:
        assert ws.payload() == payload
        assert sse.payload() == payload
    fill(stream_redis, channel, 0, 3000)
    expect(ws, 0, 3000)
    expect(sse, 0, 3000)
    assert g.metric("gaps_total") == 0


def test_many_streams_are_watched_at_once(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, *STREAM)
    clients = [WebSocket(g, f"/ws/{channel}{i}") for i in range(400)]
    for k in range(3):
        for i in range(400):
            add(stream_redis, f"{channel}{i}", b"%d %d" % (i, k))
    for i, client in enumerate(clients):
        assert [client.payload() for _ in range(3)] == [b"%d %d" % (i, k) for k in range(3)]


def test_streams_that_ring_together_are_each_read_once(gateway, own_redis, channel):
    """A compiler that kept the queue's first element in a register read it again and again, and
    looked at counts for want of proof."""
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, *STREAM)
    clients = [WebSocket(g, f"/ws/{channel}{k}") for k in range(5)]
    for i in range(2):  # the first entry of a stream is looked for
        for k, client in enumerate(clients):
            add(redis, f"{channel}{k}", b"%d" % i)
            assert client.payload() == b"%d" % i
    looks, reads = redis.calls("xinfo|stream"), redis.calls("xread")
    for i in range(2, 12):
        g.process.send_signal(signal.SIGSTOP)
        pipe = redis.client.pipeline(transaction=False)
        for k in range(5):
            pipe.xadd(f"{channel}{k}", {"data": b"%d" % i})
        pipe.execute()
        g.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert client.payload() == b"%d" % i
    assert redis.calls("xinfo|stream") == looks
    assert redis.calls("xread") - reads <= 50


def test_publishing_adds_an_entry_and_cuts_the_stream(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--channel", f"{channel}_len: source=stream, maxlen=100",
                "--channel", f"{channel}_age: source=stream, minid=1h, field=body")
    ws = WebSocket(g, f"/ws/{channel}_len")
    for i in range(400):
        answer = g.publish(f"{channel}_len", b"%d" % i)
    expect(ws, 0, 400)
    ((newest, fields),) = redis.client.xrevrange(f"{channel}_len", count=1)
    assert answer.json() == {"id": newest.decode()} and fields == {b"data": b"399"}
    assert 100 <= redis.client.xlen(f"{channel}_len") <= 200
    for i in range(150):
        redis.client.xadd(f"{channel}_age", {"body": "old"}, id=f"{i + 1}-0")
    ws = WebSocket(g, f"/ws/{channel}_age")
    g.publish(f"{channel}_age", "new")
    assert ws.payload() == b"new"
    assert redis.client.xlen(f"{channel}_age") < 150


def test_plain_channels_stay_what_they_are_beside_streams(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--channel", f"{channel}_s: source=stream")
    stream, plain = WebSocket(g, f"/ws/{channel}_s"), WebSocket(g, f"/ws/{channel}_p")
    assert redis.publish(f"{channel}_s", "not for the stream") == 0
    assert redis.publish(f"{channel}_p", "plain") == 1
    add(redis, f"{channel}_s", "entry")
    assert stream.payload() == b"entry"
    assert plain.payload() == b"plain"
    assert g.publish(f"{channel}_p", "x").json() == {"receivers": 1}


def test_an_entry_that_is_no_message_is_a_gap_of_one(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, "--max-message", "1000", *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    stream_redis.client.xadd(channel, {"else": "1", "data2": "2"})
    assert missed(sse.event()) == 1
    add(stream_redis, channel, "x" * 1001)
    assert missed(sse.event()) == 1
    stream_redis.client.xadd(channel, {"a": "1", "data": "here", "z": "2"})
    assert sse.payload() == b"here"


def test_a_key_that_is_no_stream_is_refused_and_harms_nobody(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, *STREAM)
    stream_redis.client.set(f"{channel}_wrong", "text")
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            WebSocket(g, f"/ws/{channel}_wrong")
        assert refused.value.status == 503
    stream_redis.client.delete(f"{channel}_wrong")
    late = WebSocket(g, f"/ws/{channel}_wrong")
    add(stream_redis, f"{channel}_wrong", "right")
    assert late.payload() == b"right"
    first, second = WebSocket(g, f"/ws/{channel}_1"), WebSocket(g, f"/ws/{channel}_2")
    stream_redis.client.set(f"{channel}_1", "text")
    for i in range(3):
        add(stream_redis, f"{channel}_2", b"%d" % i)
        assert second.payload() == b"%d" % i
    stream_redis.client.delete(f"{channel}_1")
    add(stream_redis, f"{channel}_1", "a stream after all")
    assert first.payload() == b"a stream after all"


def test_source_stream_needs_redis():
    import subprocess
    ended = subprocess.run([harness.TRAMLINE, "serve", "--listen", "127.0.0.1:0", *STREAM],
                           capture_output=True, timeout=harness.DEADLINE)
    assert ended.returncode == 2 and b"source=stream needs --redis" in ended.stderr


def test_an_unwatched_stream_is_let_go(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--linger", "50ms", "--history-ttl", "50ms", *STREAM)
    bell = f"__keyspace@0__:{channel}"
    with WebSocket(g, f"/ws/{channel}"):
        assert redis.numsub(bell) == 1
    wait_for(lambda: redis.numsub(bell) == 0, "the doorbell is let go")
    g.wait_metric("channels", 0)
    add(redis, channel, "unseen")
    ws = WebSocket(g, f"/ws/{channel}")
    add(redis, channel, "seen")
    assert ws.payload() == b"seen"


# --- resume ---


def test_positions_are_the_same_on_every_gateway(gateway, stream_redis, channel):
    one, two = (gateway("--redis", stream_redis.url, *STREAM) for _ in range(2))
    add(stream_redis, channel, "before")
    a, b = Sse(one, f"/sse/{channel}").acked(), Sse(two, f"/sse/{channel}").acked()
    assert a.last_id == b.last_id
    fill(stream_redis, channel, 0, 20)
    ids = [[client.named("message").id for _ in range(20)] for client in (a, b)]
    assert ids[0] == ids[1]
    entries = [entry.decode() for entry, _ in stream_redis.client.xrange(channel)[1:]]
    assert [i.split("-", 2)[2] for i in ids[0]] == entries
    # From the other one's log, and from a gateway that never saw the stream.
    three = gateway("--redis", stream_redis.url, *STREAM)
    for g in (two, three):
        back = Sse(g, f"/sse/{channel}?since={ids[0][4]}").acked()
        expect(back, 5, 20)
        ws = WebSocket(g, f"/ws/{channel}?since={ids[0][0]}&received=7")
        expect(ws, 8, 20)
        assert g.metric("gaps_total") == 0
    add(stream_redis, channel, "20")
    expect(back, 20, 21)
    expect(ws, 20, 21)


def test_a_position_from_before_the_first_entry_is_good_everywhere(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    one = gateway("--redis", redis.url, *STREAM)
    since = one.get(f"/position/{channel}").json()["position"]
    assert since.split("-", 1)[1] == "0-0-0"
    fill(redis, channel, 0, 5)
    other = gateway("--redis", redis.url, *STREAM)
    for g in (one, other):
        expect(WebSocket(g, f"/ws/{channel}?since={since}"), 0, 5)
        expect(WebSocket(g, f"/ws/{channel}?since={since}&received=3"), 3, 5)


def test_a_client_that_is_ahead_of_its_new_gateway_gets_nothing_twice(gateway, own_redis, channel):
    """The other gateway was quicker: this one reads on before it says yes."""
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    add(redis, channel, "0")
    epoch, added, _ = expect(sse, 0, 1).split("-", 2)
    redis.client.config_set("notify-keyspace-events", "")  # this one hears nothing for a while
    newest = redis.client.xadd(channel, {"data": "1"}).decode()
    ahead = Sse(g, f"/sse/{channel}?since={epoch}-{int(added) + 1}-{newest}").acked()
    redis.client.config_set("notify-keyspace-events", "Kgt")
    add(redis, channel, "2")
    expect(ahead, 2, 3)
    expect(sse, 1, 3)
    assert g.metric("gaps_total") == 0


def test_what_left_the_log_is_read_from_redis_again(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, "--channel", "*: source=stream, history=50")
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(stream_redis, channel, 0, 90)
    ids = [sse.named("message").id for _ in range(90)]
    wait_for(lambda: g.get(f"/channels/{channel}").json()["messages"] <= 50, "the log is short")
    back = Sse(g, f"/sse/{channel}?since={ids[5]}").acked()
    expect(back, 6, 90)
    expect(WebSocket(g, f"/ws/{channel}?since={ids[5]}"), 6, 90)
    assert g.metric("messages_reread_total") >= 34
    assert g.metric("gaps_total") == 0
    add(stream_redis, channel, "90")
    for client in (back, sse):
        expect(client, 90, 91)


def test_what_is_too_old_or_trimmed_is_told_with_its_count(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--channel", "*: source=stream, history=20")
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(redis, channel, 0, 90)
    ids = [sse.named("message").id for _ in range(90)]
    # 20 in the log and 20 more from Redis.
    old = Sse(g, f"/sse/{channel}?since={ids[5]}")
    assert missed(old.named("gap", "message")) == 44
    assert old.named("position").id == ids[49]
    expect(old, 50, 90)
    redis.client.xtrim(channel, maxlen=5, approximate=False)
    other = gateway("--redis", redis.url, *STREAM)
    trimmed = Sse(other, f"/sse/{channel}?since={ids[80]}")
    assert missed(trimmed.named("gap", "message")) == 4
    expect_after = trimmed.named("position").id
    assert expect_after.split("-")[0] == ids[0].split("-")[0]
    expect(trimmed, 85, 90)
    with WebSocket(other, f"/ws/{channel}?since={ids[80]}") as ws:
        end = ws.ended()
        assert end.code == 4410 and end.reason.endswith(b"missed=9")


def test_a_counting_websocket_resumes_when_its_position_is_long_gone(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--channel", "*: source=stream, history=10")
    fill(redis, channel, 0, 10)
    since = g.get(f"/position/{channel}").json()["position"]
    watcher = WebSocket(g, f"/ws/{channel}")
    fill(redis, channel, 10, 100)
    expect(watcher, 10, 100)
    redis.client.xtrim(channel, maxlen=12, approximate=False)
    for received in (81, 90):
        ws = WebSocket(g, f"/ws/{channel}?since={since}&received={received}")
        expect(ws, 10 + received, 100)
    ended = WebSocket(g, f"/ws/{channel}?since={since}&received=50").ended()
    assert ended.code == 4410
    ended = WebSocket(g, f"/ws/{channel}?since={since}&received=91").ended()
    assert ended.code == 4410 and ended.reason.endswith(b"missed=?")


@pytest.mark.race
def test_a_storm_of_returning_clients_is_one_read_and_not_one_each(gateway, own_redis, channel,
                                                                   workers):
    redis = own_redis(*BELLS)
    first = gateway("--redis", redis.url, *STREAM)
    sse = Sse(first, f"/sse/{channel}").acked()
    fill(redis, channel, 0, 200)
    ids = [sse.named("message").id for _ in range(200)]
    g = gateway("--redis", redis.url, "--workers", workers, *STREAM)
    clients = [Sse(g, f"/sse/{channel}?since={ids[i]}", ask=False) for i in range(200)]
    for client in clients:
        client.ask()
    for i, client in enumerate(clients):
        client.accepted()
        client.acked()
        expect(client, i + 1, 200)
    assert redis.calls("xrevrange") <= 4 * workers
    assert g.metric("gaps_total") == 0


def test_positions_that_are_made_up_cost_one_read_and_no_more_memory(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--channel", "*: source=stream, bytes=1KiB")
    for i in range(300):
        add(redis, channel, b"%d" % i * 30)
    watcher = Sse(g, f"/sse/{channel}").acked()
    for i in range(20):
        with Sse(g, f"/sse/{channel}?since=0000000000000001-1-{i + 1}-1") as sse:
            assert missed(sse.named("gap", "message")) is None
    assert g.metric("log_bytes") < 16384
    assert redis.calls("xrevrange") <= 4
    add(redis, channel, "0")
    expect(watcher, 0, 1)


@pytest.mark.parametrize("since", ["0000000000000001-7-1-1", "0000000000000001-7",
                                   "0000000000000001-7-99999999999999-0", "nonsense"])
def test_a_position_that_cannot_be_proven_is_told(gateway, shared_redis, own_redis, channel, since):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, *STREAM)
    fill(redis, channel, 0, 3)
    sse = Sse(g, f"/sse/{channel}?since={since}")
    assert missed(sse.named("gap", "message")) is None
    sse.named("position")
    add(redis, channel, "3")
    expect(sse, 3, 4)


# --- losses ---


@pytest.mark.race
def test_kill_and_restart_from_the_append_only_file_loses_nothing(gateway, own_redis, channel,
                                                                  workers):
    redis = own_redis(*BELLS, "--appendonly", "yes", "--appendfsync", "always")
    g = gateway("--redis", redis.url, "--workers", workers, *QUICK, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}?strict=1"), Sse(g, f"/sse/{channel}").acked()
    for k in range(3):
        fill(redis, channel, 100 * k, 100 * k + 50)
        redis.kill()
        redis.start()
        fill(redis, channel, 100 * k + 50, 100 * k + 100)
    got = [sse.named("message", "gap") for _ in range(300)]
    expect(ws, 0, 300)
    assert [e.payload for e in got] == [b"%d" % i for i in range(300)]
    assert g.metric("gaps_total") == 0
    assert g.metric("broker_losses_total") >= 3
    # Positions from before the restart are good for the other gateway too.
    other = gateway("--redis", redis.url, *STREAM)
    expect(Sse(other, f"/sse/{channel}?since={got[20].id}").acked(), 21, 300)


def test_a_frozen_redis_is_noticed_and_nothing_is_lost(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, *QUICK, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}?strict=1"), Sse(g, f"/sse/{channel}").acked()
    fill(stream_redis, channel, 0, 5)
    expect(ws, 0, 5)
    expect(sse, 0, 5)
    stream_redis.freeze()
    g.wait_unready()
    assert json.loads(sse.named("broker").data)["state"] == "down"
    assert g.publish(channel, "pretend").status == 503
    stream_redis.thaw()
    g.wait_ready()
    fill(stream_redis, channel, 5, 10)
    expect(ws, 5, 10)
    assert json.loads(sse.named("broker").data)["state"] == "up"
    assert [sse.named("message").payload for _ in range(5)] == [b"%d" % i for i in range(5, 10)]
    assert g.metric("gaps_total") == 0


def test_hundreds_of_streams_are_followed_again_after_a_restart(gateway, own_redis, channel):
    redis = own_redis(*BELLS, "--appendonly", "yes", "--appendfsync", "always")
    g = gateway("--redis", redis.url, *QUICK, *STREAM)
    clients = [WebSocket(g, f"/ws/{channel}{i}?strict=1") for i in range(300)]
    for i in range(300):
        fill(redis, f"{channel}{i}", 0, 2)
    redis.kill()
    g.wait_unready()
    redis.start()
    for i in range(300):
        fill(redis, f"{channel}{i}", 2, 4)
    for client in clients:
        expect(client, 0, 4)
    assert redis.calls("subscribe") <= 20, "one by one"
    assert g.metric("gaps_total") == 0


def test_links_killed_again_and_again_under_load_lose_nothing(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, *QUICK, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}?strict=1"), Sse(g, f"/sse/{channel}").acked()
    over = threading.Event()

    def cut():
        kinds = ["pubsub", "normal"]
        client = harness.redis.Redis(port=stream_redis.port)
        while not over.wait(0.05):
            kinds.reverse()
            client.execute_command("CLIENT", "KILL", "TYPE", kinds[0], "SKIPME", "yes")

    cutter = threading.Thread(target=cut)
    cutter.start()
    adder = harness.redis.Redis(port=stream_redis.port)
    n = 0
    try:
        while n < 1500 or (g.metric("broker_losses_total") < 4 and n < 100000):
            try:
                last = adder.xadd(channel, {"data": b"%d" % n}, id=f"{n + 1}-1")
            except harness.redis.ResponseError:
                pass  # it was added, and the answer was cut off
            except harness.redis.ConnectionError:
                continue
            n += 1
    finally:
        over.set()
        cutter.join()
    assert last
    expect(ws, 0, n)
    got = [sse.named("message", "gap").payload for _ in range(n)]
    assert got == [b"%d" % i for i in range(n)]
    assert g.metric("gaps_total") == 0


def pause(g):
    g.process.send_signal(signal.SIGSTOP)


def resume(g):
    g.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("cut", [False, True], ids=["linked", "reconnected"])
def test_what_is_trimmed_before_it_was_read_is_a_gap_with_its_count(gateway, stream_redis, channel,
                                                                   cut):
    g = gateway("--redis", stream_redis.url, "--redis-dead", "60s", *STREAM)
    other = gateway("--redis", stream_redis.url, *STREAM)  # it is there, and misses nothing
    watcher = WebSocket(other, f"/ws/{channel}")
    sse, strict = Sse(g, f"/sse/{channel}").acked(), WebSocket(g, f"/ws/{channel}?strict=1")
    fill(stream_redis, channel, 0, 10)
    expect(sse, 0, 10)
    expect(strict, 0, 10)
    pause(g)
    fill(stream_redis, channel, 10, 60)
    expect(watcher, 0, 60)
    stream_redis.client.xtrim(channel, maxlen=10, approximate=False)
    if cut:
        stream_redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        stream_redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    resume(g)
    assert next_gap(sse) == 40
    got = [sse.named("message", "gap").payload for _ in range(10)]
    assert got == [b"%d" % i for i in range(50, 60)]
    end = strict.ended()
    assert end.code == 4410 and end.reason.endswith(b" missed=40")
    for one in (g, other):
        expect(WebSocket(one, f"/ws/{channel}?since={end.reason.split()[1].decode()}"), 50, 60)
    assert g.metric("gap_messages_total") == 80


def test_what_is_deleted_before_it_was_read_is_a_gap_with_its_count(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, "--redis-dead", "60s", *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    add(stream_redis, channel, "0")
    expect(sse, 0, 1)
    pause(g)
    ids = [stream_redis.client.xadd(channel, {"data": b"%d" % i}) for i in range(1, 6)]
    stream_redis.client.xdel(channel, ids[1], ids[2])
    stream_redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    resume(g)
    seen = [sse.named("message", "gap") for _ in range(4)]
    assert [e.payload for e in seen if e.name == "message"] == [b"1", b"4", b"5"]
    assert [missed(e) for e in seen if e.name == "gap"] == [2]
    add(stream_redis, channel, "6")
    assert sse.named("message").payload == b"6"


def test_who_was_away_while_a_stream_was_deleted_and_filled_anew_is_told(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, "--log-messages", "20", *STREAM)
    stays = Sse(g, f"/sse/{channel}").acked()
    goes = Sse(g, f"/sse/{channel}").acked()
    fill(redis, channel, 0, 10)
    position = expect(goes, 0, 10)
    goes.close()
    expect(stays, 0, 10)
    redis.client.delete(channel)
    assert next_gap(stays) is None
    fill(redis, channel, 0, 60)  # beyond where the other one's count stands, and more than is kept
    expect(stays, 0, 60)
    assert next_gap(Sse(g, f"/sse/{channel}", headers={"Last-Event-ID": position})) is None


def test_a_stream_of_one_entry_delivers_each_of_them(gateway, stream_redis, channel):
    """What the gateway has is cut away with each new entry: the counts prove it is whole."""
    g = gateway("--redis", stream_redis.url, *STREAM)
    ws = WebSocket(g, f"/ws/{channel}?strict=1")
    for i in range(50):
        add(stream_redis, channel, b"%d" % i, maxlen=1, approximate=False)
        expect(ws, i, i + 1)
    assert g.metric("gaps_total") == 0


@pytest.mark.parametrize("how", ["delete", "flushall", "older", "xsetid"])
def test_another_stream_of_the_same_name_is_a_gap(gateway, stream_redis, channel, how):
    g = gateway("--redis", stream_redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(stream_redis, channel, 0, 10)
    position = expect(sse, 0, 10)
    client = stream_redis.client
    newest = int(position.split("-")[2])
    wait_for(lambda: int(client.time()[0] * 1000 + client.time()[1] / 1000) > newest + 1,
             "ids of another millisecond")
    if how == "delete":
        client.delete(channel)
        fill(stream_redis, channel, 10, 12)
    elif how == "flushall":
        client.flushall()
        fill(stream_redis, channel, 10, 12)
    elif how == "older":
        pause(g)
        client.delete(channel)
        add(stream_redis, channel, "unknown", id="5-5")
        resume(g)
    else:
        client.xtrim(channel, maxlen=0, approximate=False)
        client.execute_command("XSETID", channel, "99999999999999-0", "ENTRIESADDED", "5",
                               "MAXDELETEDID", "0-0")
    assert next_gap(sse) is None
    if how in ("delete", "flushall"):
        got = [sse.named("message", "gap") for _ in range(2)]
        assert [e.payload for e in got if e.name == "message"] == [b"10", b"11"]
        back = Sse(g, f"/sse/{channel}?since={position}")
        assert back.named("gap", "message").name == "gap"
    if how == "older":
        add(stream_redis, channel, "11", id="6-6")
        assert sse.named("message").payload == b"11"


def test_a_stream_of_the_same_counts_in_its_place_is_a_gap(gateway, stream_redis, channel):
    """It has as many new entries as its counts say, but not the one that the gateway has."""
    g = gateway("--redis", stream_redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(stream_redis, channel, 0, 10)
    newest = int(expect(sse, 0, 10).split("-")[2])
    pipe = stream_redis.client.pipeline()
    for i in range(10):
        pipe.xadd(channel + "_other", {"data": "other"}, id=f"{i + 1}-0")
    for i in range(2):
        pipe.xadd(channel + "_other", {"data": b"%d" % (10 + i)}, id=f"{newest + 1 + i}-0")
    pipe.rename(channel + "_other", channel)
    pipe.execute()
    add(stream_redis, channel, "12", id=f"{newest + 9}-0")
    assert next_gap(sse) is None
    assert [sse.named("message").payload for _ in range(3)] == [b"10", b"11", b"12"]
    add(stream_redis, channel, "13")
    assert sse.event().payload == b"13"
    assert g.metric("gaps_total") == 1


def test_an_entry_that_was_deleted_behind_its_reader_is_no_gap(gateway, stream_redis, channel):
    g = gateway("--redis", stream_redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    for i in range(20):
        fill(stream_redis, channel, i, i + 1)
        expect(sse, i, i + 1)
        if i % 2:
            newest = stream_redis.client.xrevrange(channel, count=1)[0][0]
            assert stream_redis.client.xdel(channel, newest) == 1
    assert g.metric("gaps_total") == 0


def test_what_is_deleted_in_the_breath_it_was_added_in_is_a_gap_of_one(gateway, stream_redis, channel):
    """Nobody was told of it but by the counts, which are looked at every few seconds without a doorbell."""
    g = gateway("--redis", stream_redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(stream_redis, channel, 0, 2)
    newest = int(expect(sse, 0, 2).split("-")[2])
    pipe = stream_redis.client.pipeline()
    for i in range(2, 5):
        pipe.xadd(channel, {"data": b"%d" % i}, id=f"{newest + i}-0")
    pipe.xdel(channel, f"{newest + 3}-0")
    pipe.execute()
    events = [sse.event() for _ in range(3)]
    assert sorted(e.name for e in events) == ["gap", "message", "message"], events
    assert [missed(e) for e in events if e.name == "gap"] == [1]
    assert [e.payload for e in events if e.name == "message"] == [b"2", b"4"]
    add(stream_redis, channel, "5", id=f"{newest + 9}-0")
    assert sse.event().payload == b"5"
    assert g.metric("gap_messages_total") == 1


def test_ids_that_were_set_ahead_are_no_gap(gateway, own_redis, channel):
    """What reading begins behind need not be an entry."""
    redis = own_redis(*BELLS)
    fill(redis, channel, 0, 3)
    redis.client.execute_command("XSETID", channel, "99999999999999-0")
    g = gateway("--redis", redis.url, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(redis, channel, 3, 6)
    expect(sse, 3, 6)
    assert g.metric("gaps_total") == 0


def test_a_data_set_that_comes_back_empty_is_a_gap(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, *QUICK, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}?strict=1"), Sse(g, f"/sse/{channel}").acked()
    fill(redis, channel, 0, 5)
    expect(ws, 0, 5)
    expect(sse, 0, 5)
    redis.kill()
    assert json.loads(sse.named("broker").data)["state"] == "down"
    redis.start()
    assert next_gap(sse) is None
    end = ws.ended()
    assert end.code == 4410 and b"missed=?" in end.reason
    wait_for(lambda: redis.numsub(f"__keyspace@0__:{channel}") == 1, "followed again")
    g.wait_ready()
    fill(redis, channel, 5, 7)
    got = [sse.named("message").payload for _ in range(2)]
    assert got == [b"5", b"6"]


def test_an_older_state_of_redis_is_a_gap(gateway, own_redis, channel):
    """What a failover to a replica that lags does: entries that clients have are gone."""
    redis = own_redis(*BELLS, "--appendonly", "no")
    g = gateway("--redis", redis.url, *QUICK, *STREAM)
    sse = Sse(g, f"/sse/{channel}").acked()
    fill(redis, channel, 0, 5)
    redis.client.save()
    fill(redis, channel, 5, 10)
    position = expect(sse, 0, 10)
    redis.kill()
    redis.start()
    assert next_gap(sse) is None
    g.wait_ready()
    fill(redis, channel, 10, 12)
    assert [sse.named("message").payload for _ in range(2)] == [b"10", b"11"]
    other = gateway("--redis", redis.url, *STREAM)
    back = Sse(other, f"/sse/{channel}?since={position}")
    assert missed(back.named("gap", "message")) is None


def test_notifications_that_are_switched_off_are_missed_for_a_moment_only(gateway, own_redis,
                                                                          channel):
    redis = own_redis(*BELLS)
    g = gateway("--redis", redis.url, *STREAM)
    ws = WebSocket(g, f"/ws/{channel}?strict=1")
    redis.client.config_set("notify-keyspace-events", "")
    fill(redis, channel, 0, 3)
    expect(ws, 0, 3)
    fill(redis, channel, 3, 6)
    expect(ws, 3, 6)
    redis.client.config_set("notify-keyspace-events", "Kgt")
    fill(redis, channel, 6, 9)
    expect(ws, 6, 9)
    assert g.metric("gaps_total") == 0


def test_a_user_that_may_only_read_streams_is_enough(gateway, own_redis, channel):
    redis = own_redis()
    redis.client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "-@all",
                                 "+@read", "+@pubsub", "+multi", "+exec", "+ping", "+auth")
    g = gateway("--redis", f"redis://reader:secret@127.0.0.1:{redis.port}", *STREAM)
    ws = WebSocket(g, f"/ws/{channel}?strict=1")
    fill(redis, channel, 0, 20)
    expect(ws, 0, 20)
    assert g.publish(channel, "x").status == 403


def test_a_user_without_xread_is_served_and_costs_redis_no_storm(gateway, own_redis, channel):
    """Waiting is answered with an error at once: it is not asked again and again."""
    redis = own_redis()
    redis.client.execute_command("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all",
                                 "-xread")
    g = gateway("--redis", f"redis://some:secret@127.0.0.1:{redis.port}", *STREAM)
    ws = WebSocket(g, f"/ws/{channel}?strict=1")
    start, looks = redis.client.time(), redis.calls("config|get")
    fill(redis, channel, 0, 3)
    expect(ws, 0, 3)
    wait_for(lambda: redis.calls("config|get") > looks, "the gateway has looked again")
    rejected = redis.client.info("commandstats")["cmdstat_xread"]["rejected_calls"]
    seconds = redis.client.time()[0] - start[0] + 1
    assert rejected < 20 + 20 * seconds
    assert b"NOPERM" in g.log()


def test_what_a_replica_gets_by_a_full_synchronisation_is_read(gateway, own_redis, channel):
    """It comes without notifications, and nothing follows that would ring."""
    at_once = ("--repl-diskless-sync-delay", "0")
    master, redis = own_redis(*BELLS, *at_once), own_redis(*BELLS)

    def follow():
        redis.client.replicaof("127.0.0.1", master.port)
        wait_for(lambda: redis.client.info("replication").get("master_link_status") == "up",
                 "the replica is in step")

    follow()
    g = gateway("--redis", redis.url, *STREAM)
    ws, sse = WebSocket(g, f"/ws/{channel}?strict=1"), Sse(g, f"/sse/{channel}").acked()
    fill(master, channel, 0, 5)
    expect(ws, 0, 5)
    redis.client.replicaof("NO", "ONE")  # and so with a history of its own
    fill(master, channel, 5, 10)
    follow()
    expect(ws, 5, 10)
    assert [sse.named("message", "gap").payload for _ in range(10)] == [b"%d" % i for i in range(10)]
    assert g.metric("gaps_total") == 0


def test_a_stream_that_may_not_be_read_is_refused(gateway, own_redis, channel):
    redis = own_redis(*BELLS)
    redis.client.execute_command("ACL", "SETUSER", "some", "on", ">secret", "~other", "&*", "+@all")
    g = gateway("--redis", f"redis://some:secret@127.0.0.1:{redis.port}", *STREAM)
    with pytest.raises(Refused) as refused:
        WebSocket(g, f"/ws/{channel}")
    assert refused.value.status == 403
