"""RFC 6455 over the duplex route: what a client sends comes back through the broker (R20, A1 to A7).
Every case runs whole and again one byte at a time."""

import struct

import pytest

import harness
from harness import WebSocket


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory):
    g = harness.Gateway(tmp_path_factory.mktemp("echo"), "--max-inbound", "128KiB",
                        "--inbound-rate", "1000000")
    yield g
    g.finish()


@pytest.fixture(params=[False, True], ids=["whole", "bytewise"])
def ws(request, echo_server):
    counter = getattr(echo_server, "rooms", 0)
    echo_server.rooms = counter + 1
    client = WebSocket(echo_server, f"/chat/room{counter}")
    client.dribble = request.param
    yield client
    client.close()


def fails_with(ws, *codes):
    end = ws.ended()
    assert end.code in codes, end
    return end


@pytest.mark.parametrize("opcode", [1, 2], ids=["text", "binary"])
@pytest.mark.parametrize("n", [0, 1, 2, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536, 65537])
def test_every_length_comes_back(ws, opcode, n):
    payload = bytes(32 + i % 90 for i in range(n)) if opcode == 1 else bytes(
        255 - i % 256 for i in range(n))
    ws.frame_out(opcode, payload)
    got_opcode, got = ws.message()
    assert got == payload
    assert got_opcode == (1 if opcode == 1 or n == 0 else 2)


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4"])
def test_every_mask_is_undone(ws, mask):
    for n in range(0, 20):
        ws.frame_out(1, b"abcdefghijklmnopqrst"[:n], mask=mask)
        assert ws.payload() == b"abcdefghijklmnopqrst"[:n]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(ws, payload):
    ws.frame_out(9, payload)
    assert ws.frame() == (10, payload)


def test_ten_pings_in_a_row_are_all_answered(ws):
    for i in range(10):
        ws.frame_out(9, b"ping%d" % i)
    assert [ws.frame() for _ in range(10)] == [(10, b"ping%d" % i) for i in range(10)]


def test_an_unasked_pong_is_ignored(ws):
    ws.frame_out(10, b"nobody asked")
    ws.frame_out(10)
    ws.text("still here")
    assert ws.payload() == b"still here"


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_a_reserved_opcode_is_1002(ws, opcode):
    ws.frame_out(opcode, b"x")
    fails_with(ws, 1002)


@pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
@pytest.mark.parametrize("rsv", [1, 2, 4, 7])
def test_a_reserved_bit_is_1002(ws, opcode, rsv):
    ws.frame_out(opcode, b"", rsv=rsv)
    fails_with(ws, 1002)


@pytest.mark.parametrize("opcode", [1, 2, 8, 9, 10])
@pytest.mark.parametrize("payload", [b"", b"xy"])
def test_an_unmasked_frame_is_1002(ws, opcode, payload):
    ws.frame_out(opcode, payload, mask=None)
    fails_with(ws, 1002)


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_a_control_frame_may_not_be_fragmented(ws, opcode):
    ws.frame_out(opcode, b"", fin=False)
    fails_with(ws, 1002)


@pytest.mark.parametrize("opcode", [8, 9, 10])
@pytest.mark.parametrize("n", [126, 65536])
def test_a_control_frame_may_not_be_long(ws, opcode, n):
    ws.send(WebSocket.encode(opcode, b"x" * n)[:14])
    fails_with(ws, 1002)


@pytest.mark.parametrize("n, form", [(0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)])
def test_a_length_that_is_not_the_shortest_is_1002(ws, n, form):
    ws.send(WebSocket.encode(2, b"x" * n, form=form)[:16])
    fails_with(ws, 1002)


@pytest.mark.parametrize("n", [(128 << 10) + 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
                               (1 << 63) - 1])
def test_a_length_over_the_limit_is_1009_before_any_byte_of_it(ws, n):
    ws.send(b"\x82\xff" + struct.pack(">Q", n) + b"abcd")
    fails_with(ws, 1009)


@pytest.mark.parametrize("n", [1 << 63, (1 << 64) - 1])
def test_a_length_with_the_top_bit_is_refused(ws, n):
    ws.send(b"\x82\xff" + struct.pack(">Q", n) + b"abcd")
    fails_with(ws, 1002, 1009)


@pytest.mark.parametrize("delta", [-1, 0, 1])
@pytest.mark.parametrize("fragmented", [False, True])
def test_the_inbound_limit_is_exact(echo_server, delta, fragmented):
    ws = WebSocket(echo_server, f"/chat/limit{delta}{fragmented}")
    payload = b"x" * ((128 << 10) + delta)
    if fragmented:
        ws.frame_out(2, payload[:1000], fin=False)
        ws.frame_out(0, payload[1000:])
    else:
        ws.frame_out(2, payload)
    if delta <= 0:
        assert ws.payload() == payload
    else:
        fails_with(ws, 1009)
    ws.close()


@pytest.mark.parametrize("pieces", [[b"ab", b"cd"], [b"", b"ab", b"", b"cd", b""], [b"", b""],
                                    [b"a", b"b", b"c", b"d"], [b"x" * 70000, b"y" * 3]])
@pytest.mark.parametrize("opcode", [1, 2], ids=["text", "binary"])
def test_fragments_become_one_message(ws, opcode, pieces):
    for i, piece in enumerate(pieces):
        ws.frame_out(opcode if i == 0 else 0, piece, fin=i == len(pieces) - 1)
    assert ws.payload() == b"".join(pieces)
    ws.text("next")
    assert ws.payload() == b"next"


def test_control_frames_between_fragments_are_answered_at_once(ws):
    ws.frame_out(1, b"Stra", fin=False)
    ws.frame_out(9, b"one")
    assert ws.frame() == (10, b"one")
    ws.frame_out(0, b"\xc3", fin=False)
    ws.frame_out(10, b"unasked")
    ws.frame_out(9, b"two")
    assert ws.frame() == (10, b"two")
    ws.frame_out(0, b"\x9fe")
    assert ws.message() == (1, "Straße".encode())


def test_a_close_between_fragments_closes(ws):
    ws.frame_out(1, b"never", fin=False)
    assert ws.say_goodbye(1000).code == 1000


@pytest.mark.parametrize("fin", [False, True])
def test_a_continuation_of_nothing_is_1002(ws, fin):
    ws.frame_out(0, b"x", fin=fin)
    fails_with(ws, 1002)


def test_a_continuation_after_the_end_is_1002(ws):
    ws.frame_out(1, b"a", fin=False)
    ws.frame_out(0, b"b")
    assert ws.payload() == b"ab"
    ws.frame_out(0, b"c")
    fails_with(ws, 1002)


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("fin", [False, True])
def test_a_new_message_inside_another_is_1002(ws, opcode, fin):
    ws.frame_out(1, b"a", fin=False)
    ws.frame_out(opcode, b"b", fin=fin)
    fails_with(ws, 1002)


GOOD = ("κόσμε $ ¢ € 𐍈 \u0000 \u007f \u0080 \u07ff \u0800 \ufffd \uffff \ud7ff \ue000 "
        "\U00010000 \U0010ffff").encode()


def test_utf8_split_at_every_byte(ws):
    for cut in range(len(GOOD) + 1):
        ws.frame_out(1, GOOD[:cut], fin=False)
        ws.frame_out(0, GOOD[cut:])
        assert ws.message() == (1, GOOD), cut


def test_utf8_in_fragments_of_one_byte(ws):
    for i in range(len(GOOD)):
        ws.frame_out(1 if i == 0 else 0, GOOD[i:i + 1], fin=i == len(GOOD) - 1)
    assert ws.message() == (1, GOOD)


BAD_UTF8 = {
    # what -> (bytes up to and with the first that is wrong, where it can be seen)
    "lone continuation": b"ab\x80", "lone lead": b"\xc3a", "overlong 2": b"\xc0", "overlong 2b": b"\xc1",
    "overlong 3": b"\xe0\x80", "overlong 4": b"\xf0\x80", "surrogate": b"\xed\xa0",
    "above 10ffff": b"\xf4\x90", "f5": b"\xf5", "ff": b"\xff", "fe": b"\xfe",
    "short 3": b"\xe2\x82a", "short 4": b"\xf0\x90\x8da",
}


@pytest.mark.parametrize("what", BAD_UTF8)
def test_bad_utf8_is_1007_at_its_first_bad_byte(ws, what):
    """The rest of the announced frame never comes: the answer may not wait for it."""
    bad = BAD_UTF8[what]
    frame = WebSocket.encode(1, bad + b"x" * 100)
    ws.send(frame[:6 + len(bad)])
    fails_with(ws, 1007)


@pytest.mark.parametrize("what", BAD_UTF8)
def test_bad_utf8_across_fragments_is_1007(ws, what):
    bad = BAD_UTF8[what]
    ws.frame_out(1, b"good " + bad[:-1], fin=False)
    ws.frame_out(0, bad[-1:], fin=False)
    fails_with(ws, 1007)


@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x90\x8d"])
def test_a_text_that_ends_in_the_middle_of_a_character_is_1007(ws, cut):
    ws.frame_out(1, b"abc" + cut)
    fails_with(ws, 1007)


def test_bad_utf8_is_fine_in_binary(ws):
    ws.frame_out(2, b"\xff\xfe", fin=False)
    ws.frame_out(0, b"\xc0")
    assert ws.message() == (2, b"\xff\xfe\xc0")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999,
                                  4000, 4999])
def test_a_valid_close_code_is_echoed(ws, code):
    ws.frame_out(8, struct.pack(">H", code) + "Grund".encode())
    assert ws.ended().code == code


def test_a_close_without_a_code_is_answered(ws):
    ws.frame_out(8)
    assert ws.ended().code in (1000, 1005)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
                                  65535])
def test_an_invalid_close_code_is_1002(ws, code):
    ws.frame_out(8, struct.pack(">H", code))
    fails_with(ws, 1002)


def test_a_close_payload_of_one_byte_is_1002(ws):
    ws.frame_out(8, b"\x03")
    fails_with(ws, 1002)


def test_a_close_reason_of_123_bytes_is_fine(ws):
    ws.frame_out(8, struct.pack(">H", 1000) + b"r" * 123)
    assert ws.ended().code == 1000


def test_a_close_reason_with_bad_utf8_is_1007(ws):
    ws.frame_out(8, struct.pack(">H", 1000) + b"\xff\xff")
    fails_with(ws, 1007, 1002)


def test_the_server_closes_the_connection_after_the_close_handshake(ws):
    ws.frame_out(8, struct.pack(">H", 1000))
    assert ws.ended().code == 1000
    assert ws.at_end() and ws.held == b""


def test_what_comes_after_a_close_is_not_looked_at(echo_server):
    listener = WebSocket(echo_server, "/chat/after_close")
    ws = WebSocket(echo_server, "/chat/after_close")
    ws.send(WebSocket.encode(8, struct.pack(">H", 1000)) + WebSocket.encode(1, b"ghost")
            + WebSocket.encode(9, b"ghost"))
    assert ws.ended().code == 1000
    echo_server.publish("after_close", "real")
    assert listener.payload() == b"real"


def test_a_protocol_error_tells_a_reason(ws):
    ws.frame_out(3, b"x")
    end = fails_with(ws, 1002)
    assert end.reason.decode()


def test_everyone_in_the_room_gets_what_one_says_the_sender_included(serve, channel):
    g = serve()
    room = [WebSocket(g, f"/chat/{channel}") for _ in range(5)]
    watcher = harness.Sse(g, f"/sse/{channel}").acked()
    for i, member in enumerate(room):
        member.text(f"text {i}")
        for each in room:
            assert each.message() == (1, f"text {i}".encode())
        member.binary(b"\xff%d" % i)
        for each in room:
            assert each.message() == (2, b"\xff%d" % i)
        assert [watcher.payload(), watcher.payload()] == [b"text %d" % i, b"\xff%d" % i]
    assert g.metric("client_messages_total") == 10


def test_a_message_to_a_route_that_takes_none_is_answered_not_swallowed(serve, channel):
    """Raw /ws is for reading: a stranger's data is ignored or refused, never published."""
    g = serve()
    watcher, ws = WebSocket(g, f"/ws/{channel}"), WebSocket(g, f"/ws/{channel}")
    ws.text("hello?")
    ws.frame_out(9, b"alive")
    try:
        assert ws.frame() == (10, b"alive")
    except AssertionError:
        pass
    g.publish(channel, "real")
    assert watcher.payload() == b"real"


def test_tiny_fragments_stay_within_the_limit(echo_server):
    """A1: empty and one-byte fragments cost no more than the message limit."""
    ws = WebSocket(echo_server, "/chat/tiny")
    before = echo_server.rss()
    ws.frame_out(2, b"", fin=False)
    ws.send(WebSocket.encode(0, b"x", fin=False) * 100000)
    ws.frame_out(0, b"y")
    opcode, payload = ws.message()
    assert payload == b"x" * 100000 + b"y"
    assert echo_server.rss() - before < 32 << 20


def test_a_message_in_fragments_over_the_limit_is_1009(echo_server):
    ws = WebSocket(echo_server, "/chat/tiny_over")
    ws.frame_out(2, b"", fin=False)
    try:
        ws.send(WebSocket.encode(0, b"x" * 64, fin=False) * 2049)
    except OSError:
        pass
    fails_with(ws, 1009)


def test_a_ping_flood_without_reading_costs_no_memory(echo_server):
    """A2: unread pongs are not queued without bound."""
    ws = WebSocket(echo_server, "/chat/flood", receive_buffer=4096)
    before = echo_server.rss()
    ws.sock.settimeout(0.5)
    burst = WebSocket.encode(9, b"x" * 125) * 1000
    try:
        for _ in range(500):
            ws.send(burst)
    except OSError:  # it stopped reading, or closed: both are fine
        pass
    ws.reset()
    assert echo_server.rss() - before < 8 << 20
    assert echo_server.get("/healthz").status == 200
