"""The live map's server side: its documents, its lines, and the demo's trams. The page itself is
tested in a browser, tests/browser."""

import json
import os
import subprocess

import pytest

import harness
from harness import Sse, WebSocket, Wire

SQUARE = {"type": "FeatureCollection", "features": [
    {"type": "Feature", "properties": {"line": "1"},
     "geometry": {"type": "LineString", "coordinates": [[21.0, 52.2], [21.1, 52.3]]}}]}
NOT_LINES = {
    "empty": (b"", "not JSON"),
    "no json": (b"lines\x00", "not JSON"),
    "cut": (json.dumps(SQUARE).encode()[:-3], "not JSON"),
    "an array": (b"[]", "not a GeoJSON FeatureCollection"),
    "no features": (b'{"type":"FeatureCollection"}', "not a GeoJSON FeatureCollection"),
    "another type": (b'{"type":"Topology","features":[]}', "not a GeoJSON FeatureCollection"),
    "no line": (b'{"type":"FeatureCollection","features":[null,{"geometry":{"type":"Point",'
                b'"coordinates":[1,2]}}]}', "no LineString"),
    "one point": (b'{"type":"FeatureCollection","features":[{"geometry":{"type":"LineString",'
                  b'"coordinates":[[1,2]]}}]}', "no LineString"),
    "off the earth": (b'{"type":"FeatureCollection","features":[{"geometry":{"type":"LineString",'
                      b'"coordinates":[[1,2],[1,91]]}}]}', "no LineString"),
    "deep": (b"[" * 100000, "not JSON"),
}


def serve_once(*arguments):
    return subprocess.run([harness.TRAMLINE, "serve", "--listen", "127.0.0.1:0", *arguments],
                          capture_output=True, timeout=harness.DEADLINE, stdin=subprocess.DEVNULL)


@pytest.fixture
def demo(gateway):
    return gateway("--demo")


def test_the_demo_runs_and_its_page_needs_nothing_from_elsewhere(demo):
    page = demo.get("/")
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert b"http://" not in page.body and b"https://" not in page.body
    assert demo.get("/web/main.js").headers["Content-Type"].startswith("text/javascript")
    assert demo.get("/web/style.css").headers["Content-Type"].startswith("text/css")
    assert demo.get("/web/none.js").status == 404
    assert demo.get("/web/../web/main.js").status == 404
    assert demo.request("POST", "/web/about").status == 405
    assert demo.request("HEAD", "/").body == b""
    about = demo.get("/web/about").json()
    assert about["demo"] is True and about["fleet"] == "fleet" and about["attribution"] == ""
    lines = demo.get("/web/lines").json()
    assert {f["geometry"]["type"] for f in lines["features"]} >= {"LineString", "Point"}
    assert b"live map" in demo.output()


def test_the_trams_of_the_demo_are_ordinary_messages(demo):
    fleet = Sse(demo, "/sse/fleet").acked()
    events = [fleet.event() for _ in range(100)]
    trams = {e.name for e in events}
    assert len(trams) >= 30 and all(name.startswith("tram_") for name in trams)
    for e in events:
        tram = json.loads(e.data)
        assert e.name == f"tram_{tram['id']}"
    one = events[-1].name
    assert json.loads(WebSocket(demo, f"/ws/{one}").payload())["id"] == int(one[5:])


def test_the_demo_publishes_through_redis_like_anybody(gateway, shared_redis):
    with shared_redis.client.pubsub() as reader:
        reader.psubscribe("tram_*")
        assert reader.get_message(timeout=harness.DEADLINE)["type"] == "psubscribe"
        gateway("--demo", "--redis", shared_redis.url)
        message = reader.get_message(timeout=harness.DEADLINE)
        assert json.loads(message["data"])["line"]


def test_the_demo_goes_on_after_redis_was_away(gateway, tmp_path):
    redis = harness.Redis(tmp_path / "redis")
    try:
        g = gateway("--demo", "--redis", redis.url)
        fleet = Sse(g, "/sse/fleet").acked()
        assert fleet.event().name.startswith("tram_")
        redis.kill()
        g.wait_unready()
        redis.start()
        g.wait_ready()
        names = []
        while not names or not names[-1].startswith("tram_") or "gap" not in names:
            names.append(fleet.event().name)
        assert "broker" in names
    finally:
        redis.stop()


def test_a_file_of_lines_is_served_as_it_stands(gateway, tmp_path):
    file = tmp_path / "lines.geojson"
    file.write_text(json.dumps(SQUARE, indent=3))
    g = gateway("--lines", file, "--attribution", 'City of "X"', "--pattern", "vehicles tram_*")
    assert g.get("/web/lines").body == file.read_bytes()
    about = g.get("/web/about").json()
    assert about == {"version": about["version"], "demo": False, "fleet": "vehicles",
                     "attribution": 'City of "X"'}
    fleet = Sse(g, "/sse/vehicles").acked()
    g.publish("tram_7", b"hello")
    assert fleet.event().name == "tram_7"


@pytest.mark.parametrize("what", NOT_LINES)
def test_a_file_that_holds_no_lines_is_refused_in_one_line(tmp_path, what):
    content, reason = NOT_LINES[what]
    file = tmp_path / "lines.geojson"
    file.write_bytes(content)
    run = serve_once("--lines", str(file))
    assert run.returncode == 2 and run.stdout == b""
    assert run.stderr.count(b"\n") == 1 and reason in run.stderr.decode()


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # it would wait for somebody who writes
    for path in [tmp_path / "none", tmp_path, tmp_path / "fifo", "/dev/zero"]:
        run = serve_once("--lines", str(path))
        assert run.returncode == 2 and run.stderr.count(b"\n") == 1, run.stderr


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_lines_may_have_8_mib(gateway, tmp_path, more):
    content = json.dumps(SQUARE).encode().ljust((8 << 20) + more)
    file = tmp_path / "lines.geojson"
    file.write_bytes(content)
    if more > 0:
        run = serve_once("--lines", str(file))
        assert run.returncode == 2 and b"8 MiB" in run.stderr and run.stderr.count(b"\n") == 1
        return
    g = gateway("--lines", file)
    assert g.get("/web/lines").body == content
    with Wire(g.port) as wire:
        wire.send(b"GET /web/lines HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wire.answer().body == content and wire.at_end()
    head = g.request("HEAD", "/web/lines")
    assert int(head.headers["Content-Length"]) == len(content) and head.body == b""


def test_the_demo_has_lines_of_its_own(tmp_path):
    run = serve_once("--demo", "--lines", str(tmp_path))
    assert run.returncode == 2 and b"--lines" in run.stderr


def test_without_the_map_the_root_says_what_there_is(gateway):
    g = gateway()
    assert b"/sse/{channel}" in g.get("/").body
    assert g.get("/web/about").status == 404
