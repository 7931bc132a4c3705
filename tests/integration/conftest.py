"""Fixtures: a real redis-server, the gateway, and tl-check, each ended by its own process id."""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402
import reliability  # noqa: E402

BROKERS = ["memory", "redis"]


def pytest_configure(config):
    for path in (harness.TRAMLINE, harness.TL_CHECK):
        if not os.access(path, os.X_OK):
            raise pytest.UsageError(f"{path} is not there: build first, or set TRAMLINE")
    if not shutil.which("redis-server"):
        raise pytest.UsageError("redis-server is not installed")
    config.addinivalue_line("markers", "soak: big or long; runs in the soak tier only")
    config.addinivalue_line("markers", "race: the two-worker subset that runs under TSan")
    if config.getoption("--reliability"):
        config.pluginmanager.register(reliability.Table(config.getoption("--reliability")))


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="also run the big and long tests")
    parser.addoption("--reliability", metavar="FILE",
                     help="write what the faults cost into the table of this page")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--soak"):
        return
    skip = pytest.mark.skip(reason="soak: run with --soak")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


def needs(present, what):
    """Skip plainly what cannot run here; with TRAMLINE_STRICT=1 a missing part is a failure."""
    if present:
        return
    if os.environ.get("TRAMLINE_STRICT") == "1":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(autouse=True)
def end_of_patience(request):
    """No test hangs for ever, not even one that is kept alive by pings."""
    # On a slow machine xdist may find the main thread of its worker not free yet and take another,
    # where there are no signals. Then this is without, as all that waits has a deadline of its own.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_alarm(_signal, _frame):
        raise harness.TimeIsUp("the test itself did not end in time")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(int(3600 * harness.PATIENCE if "soak" in request.keywords else
                     5 * harness.DEADLINE))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" and not report.failed:
        return
    if report.failed:
        for gateway in getattr(item, "gateways", []):
            text = gateway.log().decode(errors="replace")
            report.sections.append((f"gateway {gateway.args[2:]}", text[-6000:]))


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory):
    """One redis-server for all tests that do it no harm. Channels are named after the test."""
    server = harness.Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path):
    """Makes redis-servers that the test may stop, freeze and kill."""
    made = []

    def make(*arguments, **more):
        server = harness.Redis(tmp_path / f"redis{len(made)}", *arguments, **more)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def gateway(request, tmp_path):
    """Makes gateways; at the end each must exit 0 on SIGTERM with a clean stderr."""
    made = request.node.gateways = []

    def make(*arguments, **more):
        server = harness.Gateway(tmp_path / f"gateway{len(made)}", *arguments, **more)
        made.append(server)
        return server

    yield make
    errors = []
    for server in made:
        try:
            server.finish()
        except AssertionError as e:
            errors.append(str(e))
    assert not errors, "\n".join(errors)


@pytest.fixture(params=BROKERS)
def broker(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=["1worker", "2workers"])
def workers(request):
    return request.param


@pytest.fixture
def serve(gateway, broker, workers, request):
    """A gateway on each broker with one and two workers; serve.redis is its Redis or None."""

    def make(*arguments, **more):
        extra = ["--workers", workers, *arguments]
        make.redis = request.getfixturevalue("shared_redis") if broker == "redis" else None
        if make.redis:
            extra += ["--redis", make.redis.url]
        server = gateway(*extra, **more)
        server.broker = broker
        return server

    make.redis = None
    return make


@pytest.fixture
def check():
    """Starts tl-check processes and ends those that are left."""
    made = []

    def start(gateway, *arguments, **more):
        process = harness.Check(gateway, *arguments, **more)
        made.append(process)
        return process

    yield start
    for process in made:
        process.end()


@pytest.fixture
def channel(request):
    """A channel name of this test's own."""
    keep = [ch if ch.isalnum() else "_" for ch in request.node.name]
    return "".join(keep)[:80]
