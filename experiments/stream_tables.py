"""Tables of committed results: the guard with memory, and attackers who know it."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import norm_label

# Lower bounds of what the attackers' table puts together of a stream's windows.
_PARTS = {"images 2 to 32": 1, "33 to 128": 32, "from 129 on": 128}


def stream_table(folder: Path) -> str:
    """A line for each network, norm and strength: the mean over perturbations, and the lowest."""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*"))]
    seen = dict.fromkeys(p["seen"] for result in results for p in result["points"])
    counts = sorted(count for count in seen if count > 0)
    columns = {0: "no defence", **{count: str(count) for count in counts}, -1: "known"}
    lines = [f"| Classifier | Perturbations | {' | '.join(columns.values())} |"]
    lines.append("| --- | --- |" + " ---: |" * len(columns))
    for result in results:
        points, network = result["points"], f"{result['network']}, {result['size']} px"
        for norm, strength in sorted({(point["norm"], point["strength"]) for point in points}):
            group = [p for p in points if (p["norm"], p["strength"]) == (norm, strength)]
            names = {point["pattern"] for point in group}
            radius = strength * (2_000 if norm == "2" else 10)
            cells = [network, f"{len(names)} of {norm_label('l' + norm)}, ξ = {radius:,.0f}"]
            by_seen = [[p for p in group if p["seen"] == count] for count in columns]
            cells += [_mean_and_lowest(found) for found in by_seen]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_lowest(points: list[dict[str, Any]]) -> str:
    if not points:
        return ""
    worst = min(points, key=lambda point: float(point["relative"]))
    mean = sum(point["relative"] for point in points) / len(points)
    low, high = worst["ci95"]
    return f"{mean:.1f} ({worst['relative']:.1f} [{low:.1f}, {high:.1f}])"


def attackers_table(files: Sequence[Path]) -> str:
    """A line for each stream that was attacked: what is left of the clean accuracy, by part."""
    head = ["Attacker", "share attacked", "patterns", "no defence", *_PARTS, "known"]
    head.append("found in image")
    lines = [f"| {' | '.join([*head, 'false alarms'])} |", "| --- |" + " ---: |" * len(head)]
    for file in files:
        result = json.loads(file.read_text(encoding="utf-8"))
        for stream in result["streams"]:
            key = ("attacker", "share", "patterns")
            windows = [w for w in result["windows"] if all(w[k] == stream[k] for k in key)]
            attacked = stream["share"] > 0
            cells = [stream["attacker"] if attacked else "none", f"{stream['share']:g} %"]
            cells += [str(stream["patterns"]) if attacked else "", _left(windows, "acc_perturbed")]
            bounds = [*_PARTS.values(), 10**9]
            for low, high in pairwise(bounds):
                part = [w for w in windows if low <= w["seen"] < high]
                cells.append(_left(part, "acc_defended"))
            cells += [_left(windows, "acc_known"), str(stream["until"] or "")]
            clean = stream["n_clean"]
            cells.append(f"{stream['false_alarms']} of {clean:,}" if clean else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _left(windows: list[dict[str, Any]], key: str) -> str:
    """Accuracy relative to the clean one over several windows; the interval where it is one."""
    clean = sum(w["n_images"] * w["acc_clean"] for w in windows)
    if not clean:
        return ""
    rate = 100 * sum(w["n_images"] * w[key] for w in windows) / clean
    if key != "acc_defended" or len(windows) > 1 or windows[0]["ci95"] is None:
        return f"{rate:.1f}"
    low, high = windows[0]["ci95"]
    return f"{rate:.1f} [{low:.1f}, {high:.1f}]"


def memory_table(files: Sequence[Path], called: str, prefix: str = "") -> str:
    """A line for each perturbation of a bank of its own, as of :func:`stream_table`.

    Args:
        files: results of experiments.stream, for the same numbers of attacked images.
        called: what the first column holds: the banks' names, without ``prefix``.
        prefix: of these names.
    """
    points = [
        point for file in files for point in json.loads(file.read_text(encoding="utf-8"))["points"]
    ]
    counts = sorted({point["seen"] for point in points if point["seen"] > 0})
    columns = {0: "no defence", **{count: str(count) for count in counts}, -1: "known"}
    lines = [f"| {called} | {' | '.join(columns.values())} |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for name in dict.fromkeys(point["pattern"] for point in points):
        found = {p["seen"]: p for p in points if p["pattern"] == name}
        cells = [for_markdown(name.split("/")[0].removeprefix(prefix))]
        for seen in columns:
            low, high = found[seen]["ci95"]
            cells.append(f"{found[seen]['relative']:.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
