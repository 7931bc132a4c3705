"""tramline bench: it counts what is right, notices each fault, and says plainly what is wrong."""

import json
import os
import signal
import socket
import subprocess
import threading

import pytest

import harness
from harness import DEADLINE, TRAMLINE
from test_checker import toy  # noqa: F401 (a fixture)


def bench(target, *arguments, path="/ws/{channel}", scheme="ws", text=False, limit=None):
    """Returns the exit status and the report."""
    if "--timeout" not in arguments:
        arguments += ("--timeout", f"{int(DEADLINE)}s")
    command = [TRAMLINE, "bench", *([] if text else ["--json"]), *[str(a) for a in arguments],
               f"{scheme}://{target}{path}"]
    if limit:
        command = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, timeout=4 * DEADLINE)
    report = done.stdout.decode()
    if not text and report:
        report = json.loads(report)
    return done.returncode, report, done.stderr.decode()


def assert_clean(result, subscribers, deliveries):
    status, report, errors = result
    assert status == 0, (report, errors)
    assert report["ok"] and not report["ended_early"], report
    assert report["connect"]["ready"] == subscribers
    messages = report["messages"]
    assert messages["expected"] == messages["delivered"] == deliveries
    assert messages["clients_complete"] == subscribers
    assert not any(messages[k] for k in ("missing", "gaps", "duplicates", "out_of_order", "corrupt",
                                         "wrong_channel", "refused"))
    return report


KINDS = {"ws": dict(scheme="ws", path="/ws/{channel}"),
         "sse": dict(scheme="http", path="/sse/{channel}")}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request):
    return KINDS[request.param]


def ready(kind):
    return ["--ready", "id:"] if kind["scheme"] == "http" else []


# What a healthy gateway shows


def test_a_closed_loop_over_channels_counts_everything(serve, kind, channel):
    g = serve()
    report = assert_clean(
        bench(g.target, "--subscribers", 60, "--channels", 7, "--messages", 200, "--window", 20,
              "--prefix", channel, "--pid", g.pid, *ready(kind), **kind),
        60, sum(len(range(c, 60, 7)) * len(range(c, 200, 7)) for c in range(7)))
    assert report["latency"]["n"] == report["messages"]["delivered"]
    assert 0 < report["latency"]["p50_us"] <= report["latency"]["p99_us"] <= report["latency"]["max_us"]
    assert report["measured"]["cpu_us_per_delivery"] > 0
    assert report["processes"][0]["pid"] == g.pid
    assert report["processes"][0]["rss_connected"] > 0
    assert report["processes"][0]["threads"]


@pytest.mark.parametrize("size", [44, 125, 126, 300, 65536])
def test_every_size_arrives_in_bursts(gateway, kind, channel, size):
    g = gateway()
    assert_clean(bench(g.target, "--subscribers", 20, "--messages", 60, "--burst", 20, "--size", size,
                       "--prefix", channel, *ready(kind), **kind), 20, 1200)


def test_an_open_loop_publishes_at_its_rate_through_redis(gateway, shared_redis, channel):
    g = gateway("--redis", shared_redis.url)
    report = assert_clean(
        bench(g.target, "--publish", shared_redis.url, "--subscribers", 30, "--channels", 3,
              "--rate", 200, "--messages", 100, "--burst", 5, "--prefix", channel, "--spin"), 30, 1000)
    # 100 messages at 200/s: the last burst is due 475 ms after the first, never before.
    assert report["measured"]["seconds"] >= 0.475


def test_latency_counts_from_the_schedule_when_the_server_stands_still(gateway, channel):
    g = gateway()

    def stand_still():
        g.wait_metric("messages_in_total", lambda v: v > 0)
        os.kill(g.pid, signal.SIGSTOP)
        threading.Event().wait(1)
        os.kill(g.pid, signal.SIGCONT)

    pause = harness.Background(stand_still)
    report = assert_clean(bench(g.target, "--subscribers", 5, "--rate", 100, "--messages", 300,
                                "--prefix", channel), 5, 1500)
    pause.result()
    # Some 100 of the 300 were due while nobody served, the first of them a second too early.
    assert report["latency"]["max_us"] > 300_000
    assert report["latency"]["p90_us"] > 50_000


def test_several_processes_and_source_addresses_share_the_subscribers(gateway, channel):
    g = gateway()
    report = assert_clean(
        bench(g.target, "--subscribers", 100, "--processes", 3, "--messages", 50, "--window", 8,
              "--source", "127.0.0.2", "--source", "127.0.0.3", "--prefix", channel), 100, 5000)
    assert report["connect"]["handshake"]["n"] == 100


def test_descriptors_too_few_are_refused_with_the_way_out(gateway, channel):
    g = gateway()
    status, report, errors = bench(g.target, "--subscribers", 300, "--messages", 5, limit=200)
    assert status == 2 and not report
    assert "--processes 3" in errors
    assert_clean(bench(g.target, "--subscribers", 300, "--messages", 5, "--processes", 3, "--prefix",
                       channel, limit=200), 300, 1500)


def test_a_pattern_channel_is_one_sequence_over_all_channels(gateway, channel):
    g = gateway("--pattern", f"{channel} {channel}_x*")
    assert_clean(bench(g.target, "--all", "--subscribers", 10, "--channels", 12, "--messages", 100,
                       "--window", 10, "--prefix", f"{channel}_x", path=f"/ws/{channel}"), 10, 1000)


def test_without_publishing_it_holds_idle_connections(gateway, kind):
    g = gateway()
    status, report, _ = bench(g.target, "--publish", "none", "--subscribers", 50, "--duration", "200ms",
                              "--pid", g.pid, **kind)
    assert status == 0
    assert report["connect"]["ready"] == 50
    assert report["measured"]["seconds"] >= 0.2
    assert report["messages"]["published"] == 0


def test_what_is_published_in_the_warmup_is_checked_but_not_measured(gateway, channel):
    g = gateway()
    status, report, _ = bench(g.target, "--subscribers", 5, "--rate", 100, "--messages", 60,
                              "--warmup", "300ms", "--prefix", channel)
    assert status == 0
    assert report["messages"]["delivered"] == 300
    assert report["latency"]["n"] == 5 * 30


def test_a_first_message_subprotocol_and_headers_are_sent(gateway):
    g = gateway("--token", "secret")
    status, report, _ = bench(g.target, "--token", "secret", "--subscribers", 3, "--messages", 5,
                              "--header", "Authorization: Bearer secret", "--subprotocol", "chat", "--send",
                              "hello {channel}", path="/chat/{channel}")
    # Everybody in the room gets the greetings, too.
    assert status == 0, report
    assert report["messages"]["delivered"] == 15
    assert report["messages"]["other"] > 0


def test_the_text_says_the_same(gateway, channel):
    g = gateway()
    status, report, errors = bench(g.target, "--subscribers", 10, "--messages", 20, "--prefix", channel,
                                   "--pid", g.pid, text=True)
    assert status == 0 and not errors
    assert "connected  10 of 10" in report
    assert "delivered  200 of 200" in report
    assert "p99.9" in report and "a connection" in report
    assert "result     everything came, once and in order" in report


# What a server without virtue shows


FAULTS = [("lose", "missing"), ("double", "duplicates"), ("swap", "out_of_order"), ("cut", "corrupt"),
          ("stray", "wrong_channel"), ("invent", "corrupt")]


@pytest.mark.parametrize("fault, counter", FAULTS)
def test_each_fault_of_one_message_of_one_client_is_noticed(toy, kind, fault, counter):  # noqa: F811
    options = ["--prefix", "check", "--subscribers", 20, "--messages", 50, "--window", 4]
    status, report, _ = bench(toy(fault).target, *options, **kind)
    assert status == 1
    assert not report["ok"]
    assert report["messages"][counter] == 1, report
    assert report["messages"]["clients_complete"] == (20 if fault in ("stray", "invent") else 19)
    assert report["first_problem"]
    status, report, _ = bench(toy(fault).target, *options, "--lossy", **kind)
    assert status == 0 and not report["ok"]


def test_a_toy_without_faults_is_clean(toy, kind):  # noqa: F811
    assert_clean(bench(toy("none").target, "--prefix", "check", "--subscribers", 20, "--messages", 50,
                       "--window", 4, **kind), 20, 1000)


def test_a_loss_that_nothing_follows_ends_the_run_with_the_figures(toy):  # noqa: F811
    status, report, errors = bench(toy("lose").target, "--prefix", "check", "--subscribers", 4,
                                   "--messages", 50, "--timeout", "3s")
    assert status == 1 and report["ended_early"]
    assert report["messages"]["missing"] == 1
    assert report["messages"]["delivered"] == 19
    assert "nothing came for 3000 ms" in errors


def test_a_closed_loop_that_may_lose_goes_on(toy):  # noqa: F811
    status, report, _ = bench(toy("lose").target, "--prefix", "check", "--subscribers", 4,
                              "--messages", 50, "--timeout", "3s", "--lossy")
    assert status == 0
    assert report["messages"]["delivered"] == 4 * 50 - 1


@pytest.mark.parametrize("fault, words", [("close", "closed"), ("garbage", "")])
def test_a_connection_that_ends_early_is_counted_and_the_others_go_on(toy, kind, fault, words):  # noqa: F811
    if fault == "garbage" and kind["scheme"] == "http":
        pytest.skip("anything is an event stream")
    status, report, _ = bench(toy(fault).target, "--prefix", "check", "--subscribers", 5, "--messages",
                              20, "--window", 3, "--timeout", "5s", **kind)
    assert status == 1
    assert report["connect"]["closed_early"] == 1
    assert report["messages"]["clients_complete"] == 4
    assert words in report["first_problem"]


def test_a_target_that_refuses_is_named(toy, kind):  # noqa: F811
    status, report, errors = bench(toy("refuse").target, "--subscribers", 500, "--messages", 5, **kind)
    assert status == 1
    assert report["connect"]["ready"] == 0
    assert "503" in report["first_problem"]
    assert "got in" in errors


def test_a_target_that_never_answers_is_given_up(toy):  # noqa: F811
    status, report, errors = bench(toy("silent").target, "--subscribers", 5, "--messages", 5,
                                   "--timeout", "300ms")
    assert status == 1
    assert "wait for an answer" in errors


def test_a_target_that_answers_what_nobody_asked_is_named(toy):  # noqa: F811
    """Or more is answered than was sent, and it waits for ever to send more."""
    status, report, errors = bench(toy("chatter").target, "--subscribers", 1, "--messages", 50)
    assert status == 1
    assert "nobody asked" in errors


def test_a_target_that_is_down_is_named_at_once():
    target = f"127.0.0.1:{harness.free_port()}"
    status, report, errors = bench(target, "--subscribers", 5)
    assert status == 1 and "cannot reach" in errors
    status, report, errors = bench(target, "--subscribers", 500, "--publish", "none")
    assert status == 1
    assert "refused" in report["first_problem"]


def test_a_target_that_sends_garbage_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        def speak():
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"220 mail.example.org ESMTP\r\n")
                peer.recv(10000)
        thread = threading.Thread(target=speak)
        thread.start()
        status, report, _ = bench("127.0.0.1:%d" % server.getsockname()[1], "--subscribers", 1,
                                  "--publish", "none")
        thread.join()
    assert status == 1
    assert "HTTP/1.1" in report["first_problem"]


@pytest.mark.parametrize("arguments, words", [
    (["wss://localhost/x"], "ws://"),
    (["ws://"], "ws://"),
    (["ws://127.0.0.1:99999/x"], "host:port"),
    (["--channels", "3", "ws://127.0.0.1/x"], "--all"),
    (["--size", "43", "ws://127.0.0.1/x"], "44"),
    (["--header", "nonsense", "ws://127.0.0.1/x"], "Name: value"),
    (["--pid", "x", "ws://127.0.0.1/x"], "process"),
    (["--publish", "ftp://x", "ws://127.0.0.1/x"], "redis://"),
    (["--source", "nowhere", "ws://127.0.0.1/x"], "--source"),
    ([], "URL"),
])
def test_what_is_written_wrong_is_told(arguments, words):
    done = subprocess.run([TRAMLINE, "bench", *arguments], capture_output=True, timeout=DEADLINE)
    assert done.returncode == 2, done
    assert words in done.stderr.decode()


def test_its_help_names_every_option_and_how_to_begin():
    done = subprocess.run([TRAMLINE, "bench", "--help"], capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0
    text = done.stdout.decode()
    for flag in ("subscribers", "channels", "prefix", "all", "send", "ready", "subprotocol", "header",
                 "parallel", "source", "processes", "spin", "publish", "token", "size", "messages",
                 "duration", "window", "rate", "burst", "pid", "warmup", "settle", "timeout", "lossy",
                 "json", "resume-storm", "position", "stream"):
        assert f"--{flag}" in text, flag
    assert "tramline bench --subscribers 5000 ws://" in text


def test_an_interrupt_ends_it_with_the_figures_so_far(gateway, channel):
    g = gateway()
    process = subprocess.Popen([TRAMLINE, "bench", "--json", "--subscribers", "5", "--prefix", channel,
                                "--duration", "1h", f"ws://{g.target}/ws/{{channel}}"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    g.wait_metric("messages_in_total", lambda v: v > 10)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=DEADLINE)
    report = json.loads(out)
    assert process.returncode == 1
    assert report["messages"]["delivered"] > 0
    assert b"interrupted" in errors
