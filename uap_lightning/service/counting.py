"""What a service counts, for Prometheus.

Workers and the server are processes of their own. Each writes to files in the folder that the
environment variable ``PROMETHEUS_MULTIPROC_DIR`` names, which has to be set before this module is
imported; :func:`counted` adds them up.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

IMAGES = Counter("uap_images", "Images that were classified")
PERTURBED = Counter("uap_perturbed", "Images that were taken for perturbed")
SUBTRACTED = Counter("uap_subtracted", "Images from which a known pattern was subtracted")
PATTERNS = Gauge("uap_patterns", "Patterns that are known", multiprocess_mode="mostrecent")
FOUND = Counter("uap_found", "Harmful patterns that a worker found itself")
REQUESTS = Counter("uap_requests", "Requests to /predict by HTTP status", ["status"])
SECONDS = Histogram("uap_request_seconds", "Seconds a request to /predict took")
WAITING = Gauge("uap_waiting", "Requests at work or waiting", multiprocess_mode="livesum")


def counted() -> bytes:
    """What all processes counted, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
