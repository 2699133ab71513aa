"""Runs in the peers' own environment: one library's count, beside a dict increment, and its exit.

    peer.py NAME count ROUNDS URL DIRECTORY
    peer.py NAME exit URL DIRECTORY

Nothing here may leave the machine: every library is given an endpoint on loopback and no other.
`count` prints seconds per count and of the floor as JSON; `exit` counts once, as a short tool does, and
prints the instant of its last statement (monotonic ns).
"""

import json
import logging
import os
import sys
import time
from urllib.parse import urlsplit


def prometheus(url, directory):
    # Pulled by a server: it sends nothing, and counts of a process that ended are gone.
    from prometheus_client import Counter

    return Counter("tool_calls", "calls", ["tool"]).labels("search").inc


def prometheus_labels(url, directory):
    from prometheus_client import Counter

    counter = Counter("tool_calls", "calls", ["tool"])
    return lambda: counter.labels("search").inc()


def prometheus_files(url, directory):
    # For many short processes: each writes a file of its own, mapped into memory.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    return prometheus_labels(url, directory)


def opentelemetry(url, directory):
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url + "/v1/metrics"))
    counter = MeterProvider(metric_readers=[reader]).get_meter("bench").create_counter("tool_calls")
    attributes = {"tool": "search"}
    return lambda: counter.add(1, attributes)


def statsd(url, directory):
    from statsd import StatsClient

    place = urlsplit(url)
    client = StatsClient(place.hostname, place.port)
    return lambda: client.incr("tool_calls.search")


def posthog(url, directory):
    from posthog import Posthog

    client = Posthog("phc_bench", host=url)
    properties = {"tool": "search"}
    return lambda: client.capture("tool_calls", distinct_id="bench", properties=properties)


def sentry(url, directory):
    import sentry_sdk

    place = urlsplit(url)
    sentry_sdk.init(
        dsn=f"http://key@{place.netloc}/1",
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    attributes = {"tool": "search"}
    return lambda: sentry_sdk.metrics.count("tool_calls", 1, attributes=attributes)


def glean(url, directory):
    from pathlib import Path

    from glean import Configuration, Glean, load_metrics

    metrics = Path(directory) / "metrics.yaml"
    metrics.write_text(_GLEAN_METRICS)
    Glean.initialize(
        application_id="bench",
        application_version="1",
        upload_enabled=True,
        configuration=Configuration(server_endpoint=url),
        data_dir=Path(directory) / "glean",
    )
    counter = load_metrics(metrics).tools.calls
    return lambda: counter.add(1)


_GLEAN_METRICS = """\
$schema: moz://mozilla.org/schemas/glean/metrics/2-0-0
tools:
  calls:
    type: counter
    description: Calls.
    bugs: [https://example.invalid/1]
    data_reviews: [https://example.invalid/1]
    notification_emails: [bench@example.invalid]
    expires: never
"""

# name: (what makes its count, what is imported for it, calls per sample)
PEERS = {
    "prometheus_client, bound": (prometheus, "prometheus_client", 20_000),
    "prometheus_client, labels()": (prometheus_labels, "prometheus_client", 20_000),
    "prometheus_client, multiprocess": (prometheus_files, "prometheus_client", 20_000),
    "opentelemetry-sdk": (
        opentelemetry,
        "opentelemetry.sdk.metrics, opentelemetry.exporter.otlp.proto.http.metric_exporter",
        5_000,
    ),
    "statsd": (statsd, "statsd", 5_000),
    "glean-sdk": (glean, "glean", 2_000),
    "sentry-sdk": (sentry, "sentry_sdk", 2_000),
    "posthog": (posthog, "posthog", 300),
}


def main():
    # What a library complains about here (a network that refuses) is what is measured.
    logging.disable(logging.CRITICAL)
    name, what = sys.argv[1:3]
    make, _, calls = PEERS[name]
    if what == "exit":
        make(*sys.argv[3:5])()
        os.write(1, b"%d\n" % time.monotonic_ns())
        return
    import count_loop

    count_loop._LOOPS = calls // count_loop._CALLS
    call = make(*sys.argv[4:6])
    call()
    samples = count_loop.measure(int(sys.argv[3]), [("ours", call, "call()")])
    count_loop._LOOPS = 20_000
    samples["floor"] = count_loop.measure(
        int(sys.argv[3]), [("floor", count_loop.dict_increment(), "call()")]
    )["floor_1"]
    print(json.dumps(samples), flush=True)
    # How it ends is measured by itself, and here nobody waits for it.
    os._exit(0)


if __name__ == "__main__":
    main()
