"""Does tl-check notice? A checker that cannot fail proves nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

import harness

TOY = Path(__file__).with_name("toy_gateway.py")


class Toy:
    def __init__(self, fault):
        self.process = subprocess.Popen([sys.executable, str(TOY), fault], stdout=subprocess.PIPE)
        self.target = self.process.stdout.readline().decode().strip().replace("http://", "")
        self.pid = self.process.pid


@pytest.fixture
def toy():
    made = []

    def make(fault):
        made.append(Toy(fault))
        return made[-1]

    yield make
    for t in made:
        t.process.kill()
        t.process.communicate()


CLIENTS = ["--ws", 20, "--sse", 20, "--messages", 50, "--channels", 2]


def test_it_is_content_with_a_gateway_without_faults(toy, check):
    result = check(toy("none"), *CLIENTS, "--expect-subscribers", 20).verify()
    assert result["complete"] == 40
    assert result["deliveries"] == 40 * 50


@pytest.mark.parametrize("fault, counter", [
    ("lose", "gaps"), ("double", "duplicates"), ("corrupt", "corrupt"), ("swap", "duplicates"),
    ("foreign", "wrong_channel")])
def test_it_notices_what_is_wrong_with_one_message_of_one_client(toy, check, fault, counter):
    result = check(toy(fault), *CLIENTS).outcome()
    assert not result["ok"]
    assert result[counter] == 1


def test_it_notices_clients_that_never_get_the_last_message(toy, check):
    result = check(toy("lose"), "--ws", 3, "--messages", 5, "--channels", 1, deadline=5).outcome()
    assert not result["ok"]
    assert result["complete"] == 2


@pytest.mark.parametrize("content", ["text", "binary", "lines", "cr"])
def test_it_reads_every_kind_of_payload(toy, check, content):
    check(toy("none"), "--ws", 3, "--sse", 3, "--messages", 5, "--content", content,
          "--size", 70000).verify()


def test_python_makes_the_same_payloads(toy, check):
    toy = toy("none")
    process = check(toy, "--ws", 2, "--sse", 2, "--messages", 20, "--publish", "none",
                    "--prefix", "shared", "--size", 300).ready()
    import http.client
    connection = http.client.HTTPConnection(toy.target)
    for k in range(20):
        connection.request("POST", "/pub/shared", harness.made_payload("shared", k, 300))
        assert connection.getresponse().read()
    process.verify()
