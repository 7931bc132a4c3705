"""What is measured: the work of a fan-out server, as options of `tramline bench`."""

from dataclasses import dataclass


@dataclass
class Case:
    name: str
    title: str
    options: list
    path: str = "ws"  # or "sse", "everything", "resume", "resume_sse"
    table: str = "fan-out"  # which figures it is about
    needs_capacity: bool = False


def fan_out(sizes, duration):
    for n in sizes:
        yield Case(f"one-{n}", f"1 channel, {n:,} WebSockets, 128 B, one message at a time",
                   ["--subscribers", n, "--window", 1, "--duration", duration])


def bursts(sizes, duration):
    for n in sizes:
        yield Case(f"burst-{n}", f"1 channel, {n:,} WebSockets, 128 B, bursts of 200",
                   ["--subscribers", n, "--window", 200, "--burst", 200, "--duration", duration])


def in_flight(pairs, duration):
    for n, window in pairs:
        yield Case(f"flight-{n}", f"1 channel, {n:,} WebSockets, 128 B, {window} messages under way",
                   ["--subscribers", n, "--window", window, "--duration", duration])


def everything(options):
    """All cases, in an order in which case 9 knows what case 1 found."""
    duration = options.duration
    yield from fan_out(options.sizes, duration)
    yield from bursts(options.sizes, duration)
    yield from in_flight([(100, 200), (5000, 50)], duration)
    yield Case("channels-2000", f"2,000 channels, 1 WebSocket each, {options.channel_rate:,} messages/s",
               ["--subscribers", 2000, "--channels", 2000, "--rate", options.channel_rate,
                "--duration", duration])
    yield Case("channels-2000-window", "2,000 channels, 1 WebSocket each, 500 messages under way",
               ["--subscribers", 2000, "--channels", 2000, "--window", 500, "--duration", duration])
    yield Case("city", f"120 channels, all watched by 200 WebSockets, {options.city_rate} messages/s",
               ["--subscribers", 200, "--channels", 120, "--rate", options.city_rate, "--all",
                "--duration", duration], path="everything")
    yield Case("large", "1 channel, 500 WebSockets, 16 KiB, one message at a time",
               ["--subscribers", 500, "--size", "16KiB", "--duration", duration])
    yield Case("connects", f"a storm of {options.connects:,} connects",
               ["--subscribers", options.connects, "--parallel", options.connects, "--publish", "none",
                "--duration", "100ms"], table="connects")
    yield Case("idle", f"{options.idle:,} idle WebSockets",
               ["--subscribers", options.idle, "--publish", "none", "--duration", "1s", "--settle", "1s"],
               table="memory")
    yield Case("sse-1000", "1 channel, 1,000 SSE clients, 128 B, one message at a time",
               ["--subscribers", 1000, "--duration", duration], path="sse")
    yield Case("sse-burst-1000", "1 channel, 1,000 SSE clients, 128 B, bursts of 200",
               ["--subscribers", 1000, "--window", 200, "--burst", 200, "--duration", duration],
               path="sse")
    yield Case("intake", "publish intake: 1 channel, 1 WebSocket, 1,000 messages under way",
               ["--subscribers", 1, "--window", 1000, "--duration", duration], table="intake")
    # At a rate that every server keeps up with: what counts is the storm.
    storm = ["--subscribers", options.connects, "--parallel", options.connects, "--channels", 100, "--rate", 200,
             "--duration", "8s", "--resume-storm", "3s", "--settle", "1s", "--timeout", "20s"]
    yield Case("storm", f"a resume storm of {options.connects:,} WebSockets on 100 channels, 200 messages/s",
               storm, path="resume", table="storm")
    yield Case("storm-sse", f"a resume storm of {options.connects:,} SSE clients on 100 channels, 200 messages/s",
               storm, path="resume_sse", table="storm")
    yield Case("latency", "latency to 1,000 WebSockets at half of the slowest peer's capacity",
               ["--subscribers", 1000, "--duration", duration, "--warmup", "500ms"], table="latency",
               needs_capacity=True)


def quick(duration):
    yield from fan_out([5000], duration)
    yield from bursts([100, 5000], duration)
    yield from in_flight([(100, 200), (5000, 50)], duration)
