"""What /metrics shows.

Owns the names. Figures of streams are plain integers where they arise and are read at the scrape: nothing here is
called per event, and children of labels are looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from edge.streams import Streams
from edge.watches import Watches

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one edge, in a registry of its own."""

    def __init__(self, streams: Streams, watches: Watches) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Flow(streams, watches))
        ProcessCollector(registry=self.registry)
        self.first_event = Histogram(
            "penstock_edge_first_event_seconds",
            "From the request that creates a run to its first event on the stream.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "penstock_edge_requests",
            "Answered requests, by route template.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], Counter] = {}

    def count_request(self, request: web.Request, status: int) -> None:
        """Count an answered request."""
        resource = request.match_info.route.resource
        key = (resource.canonical if resource else "unmatched", request.method, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(*map(str, key))
        child.inc()

    async def show(self, _request: web.Request) -> web.Response:
        """Answer a scrape."""
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Flow(Collector):
    """Reads the counters of the streams and of the shared watch stream."""

    def __init__(self, streams: Streams, watches: Watches) -> None:
        self._streams = streams
        self._watches = watches

    def collect(self) -> Iterable[Metric]:
        streams, watches = self._streams, self._watches
        yield GaugeMetricFamily("penstock_edge_open_streams", "Event streams that are open.", len(streams))
        yield GaugeMetricFamily("penstock_edge_watches", "Watches of runs.", len(watches))
        yield GaugeMetricFamily(
            "penstock_edge_following_watches",
            "Watches that are served together with another one of their run.",
            watches.following,
        )
        yield GaugeMetricFamily(
            "penstock_edge_watch_attached", "1 while the watch stream is up.", int(watches.is_attached)
        )
        counters = {
            "penstock_edge_events_sent": ("Events written to clients.", streams.events),
            "penstock_edge_bytes_sent": ("Bytes of event streams written to clients.", streams.bytes),
            "penstock_edge_watch_reattachments": (
                "How often the watch stream was opened again.",
                max(watches.attachments - 1, 0),
            ),
            "penstock_edge_watch_overflows": (
                "Watches stopped because the client was behind.",
                watches.overflows,
            ),
            "penstock_edge_dropped_buffers": ("Buffers of clients that did not read.", streams.stalls),
        }
        for name, (help_text, value) in counters.items():
            yield CounterMetricFamily(name, help_text, value)


METRICS = web.AppKey("metrics", Metrics)
"""Where an application keeps its `Metrics`."""
STARTED = web.RequestKey("started", float)
"""When a request began, by the loop's clock."""
