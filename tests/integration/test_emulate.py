"""tramline emulate: trams of a city that does not exist, to a gateway and to Redis."""

import json
import re
import signal
import subprocess
import time

import pytest

import harness
from harness import WebSocket, wait_for
from test_lifecycle import run

FIELDS = ["id", "line", "dir", "lat", "lon", "spd", "hdg", "stop", "doors", "delay", "ts"]


@pytest.fixture
def emulate():
    """Starts emulators and ends those that are left."""
    made = []

    def start(*arguments):
        process = subprocess.Popen([harness.TRAMLINE, "emulate", *map(str, arguments)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL)
        made.append(process)
        return process

    yield start
    for process in made:
        if process.poll() is None:
            harness.end_process(process)
        process.communicate()


def ended(process):
    """Its exit status, summary and the lines on stderr that are no progress."""
    out, err = process.communicate(timeout=2 * harness.DEADLINE)
    assert not harness.SANITIZER.search(err), err
    return process.returncode, out.decode(), [line for line in err.decode().splitlines()
                                              if not line.startswith("emulate: ")]


def lines(done):
    return done.stderr.decode().strip().splitlines()


@pytest.mark.parametrize("to", ["gateway", "redis"])
def test_trams_arrive_at_their_pace(gateway, shared_redis, emulate, to):
    g = gateway("--redis", shared_redis.url, "--pattern", "fleet tram_*")
    with WebSocket(g, "/ws/fleet") as ws:
        trams = emulate("--trams", 5, "--rate", 10, "--to", g.url if to == "gateway" else
                        shared_redis.url)
        before = {}
        for _ in range(200):
            tram = json.loads(ws.payload())
            assert list(tram) == FIELDS
            assert 1 <= tram["id"] <= 5
            assert abs(time.time() - tram["ts"] / 1000) < harness.DEADLINE
            # Each tram has its own beat: a tenth of a second from one message to its next.
            if tram["id"] in before:
                assert tram["ts"] - before[tram["id"]] >= 99
            before[tram["id"]] = tram["ts"]
        assert sorted(before) == [1, 2, 3, 4, 5]
        trams.send_signal(signal.SIGINT)
        status, out, err = ended(trams)
    assert (status, err) == (0, [])
    assert re.fullmatch(r"\d+ messages in [\d.]+ s, \d+/s, \d+ receivers\n", out)


def test_trams_go_into_streams(own_redis):
    redis = own_redis("--stream-node-max-entries", "5")
    done = run("emulate", "--trams", 3, "--rate", 50, "--duration", "1s", "--to", redis.url, "--stream",
               "--maxlen", 10)
    assert done.returncode == 0, done
    for k in (1, 2, 3):
        entries = redis.client.xrange(f"tram_{k}")
        assert 1 <= len(entries) < 20
        assert list(json.loads(entries[-1][1][b"data"])) == FIELDS


def test_a_tram_has_a_channel_of_its_own(gateway, emulate):
    g = gateway()
    with WebSocket(g, "/ws/tram_3") as ws:
        emulate("--trams", 4, "--rate", 20, "--to", g.url)
        for _ in range(5):
            assert json.loads(ws.payload())["id"] == 3


def test_the_same_seed_is_the_same_day(gateway, emulate):
    g = gateway()

    def day(seed):
        with WebSocket(g, "/ws/tram_1") as ws:
            trams = emulate("--trams", 1, "--rate", 20, "--seed", seed, "--to", g.url)
            first = [json.loads(ws.payload()) for _ in range(20)]
            trams.send_signal(signal.SIGTERM)
            assert ended(trams)[0] == 0
        # But for the time of the day, which jumps if this machine stands still for seconds.
        return [{field: tram[field] for field in FIELDS if field != "ts"} for tram in first]

    monday = day(7)
    assert day(7) == monday
    assert day(8) != monday


def test_it_ends_after_its_duration(gateway):
    done = run("emulate", "--trams", 10, "--rate", 10, "--duration", "2s", "--to", gateway().url)
    assert done.returncode == 0, done
    assert 0 < int(done.stdout.split()[0]) <= 205


def test_nobody_there_is_one_line_and_exit_1():
    port = harness.free_port()
    for url in (f"http://127.0.0.1:{port}", f"redis://127.0.0.1:{port}",
                "redis+unix:///nowhere/redis.sock"):
        done = run("emulate", "--to", url)
        assert done.returncode == 1, done
        assert len(lines(done)) == 1 and not done.stdout, done


@pytest.mark.parametrize("flags", [
    ["--trams", "0"], ["--trams", "10001"], ["--trams", "many"], ["--rate", "0"],
    ["--rate", "0.0001"], ["--rate", "-1"], ["--rate", "1e3"], ["--rate", "101"], ["--rate", "."],
    ["--rate", "1."], ["--rate", "99999999999999999999"], ["--seed", "-1"], ["--seed", "x"],
    ["--duration", "5parsecs"], ["--window", "0"], ["--nonsense"], ["positional"]], ids=" ".join)
def test_a_flag_that_makes_no_sense_is_one_line_and_exit_2(flags):
    done = run("emulate", *flags)
    assert done.returncode == 2, done
    assert len(lines(done)) == 1, done
    assert flags[0].lstrip("-") in lines(done)[0] or "nothing to name" in lines(done)[0]


def test_a_wrong_address_is_one_line():
    done = run("emulate", "--to", "ftp://somewhere")
    assert done.returncode in (1, 2)
    assert len(lines(done)) == 1, done


def test_a_missing_token_is_said_at_once(gateway):
    g = gateway("--token", "right")
    done = run("emulate", "--to", g.url)
    assert done.returncode == 1, done
    assert "401" in lines(done)[-1] or "403" in lines(done)[-1], done
    done = run("emulate", "--to", g.url, "--token", "right", "--duration", "200ms")
    assert done.returncode == 0, done


@pytest.mark.parametrize("end", ["gateway", "redis"])
def test_the_other_side_going_away_is_one_line_and_exit_1(gateway, own_redis, emulate, end):
    redis = own_redis()
    g = gateway("--redis", redis.url)
    channel = "/ws/tram_1"
    with WebSocket(g, channel) as ws:
        trams = emulate("--rate", 10, "--to", g.url if end == "gateway" else redis.url)
        ws.payload()
        if end == "gateway":
            g.terminate()
        else:
            redis.kill()
        status, _out, err = ended(trams)
    assert status == 1
    assert len(err) == 1 and "lost" in err[0], err


def test_a_frozen_peer_stops_the_city_and_costs_no_memory(own_redis, emulate):
    """The window bounds what waits. A peer that answers again gets no backlog."""
    redis = own_redis()
    received = redis.client.pubsub()
    received.psubscribe("tram_*")
    trams = emulate("--trams", 100, "--rate", 10, "--window", 16, "--to", redis.url)

    def message():
        return wait_for(lambda: received.get_message(ignore_subscribe_messages=True), "a message")

    message()
    redis.freeze()
    frozen = time.time()
    wait_for(lambda: time.time() > frozen + 4, "four seconds, twice the backlog there may be")
    redis.thaw()
    # The window's worth is from before; what follows is hardly older than now.
    ages = []
    while not ages or ages[-1] > 2.5:
        ages.append(time.time() - json.loads(message()["data"])["ts"] / 1000)
        assert len(ages) < 4000
    trams.send_signal(signal.SIGINT)
    status, out, err = ended(trams)
    assert (status, err) == (0, [])
    # 1,000 messages a second: those of the frozen time beyond the backlog never were.
    rate = int(out.split()[0]) / float(re.search(r"in ([\d.]+) s", out)[1])
    assert rate < 900


def test_a_peer_that_never_answers_again_is_given_up(own_redis, emulate):
    redis = own_redis()
    trams = emulate("--trams", 2, "--rate", 5, "--to", redis.url)
    wait_for(lambda: redis.calls("publish") > 3, "trams run")
    redis.freeze()
    status, _out, err = ended(trams)
    assert status == 1
    assert len(err) == 1 and "no answer" in err[0], err
