"""The ``README.md`` of a defence folder: what it is, what was measured, and what was not."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import RunResult
from uap_lightning.results.rows import Result, gather_rows
from uap_lightning.results.tables import norm_tables
from uap_lightning.results.text import markdown


def card(condition: Mapping[str, object], result: RunResult) -> str:
    """The card as Markdown; its head is what the Hugging Face Hub reads.

    Args:
        condition: what the defence was trained on, of its ``defense.json``.
        result: the content of a ``results.json``: every number here is one of its rows.
    """
    known = {key: for_markdown(str(value)) for key, value in condition.items()}
    network, size = known["train_network"], known["size"]
    labels = {
        "ground_truth": "true labels",
        "prediction": "the network's own predictions on the clean images, for lack of true labels",
    }
    rows = gather_rows([Result("this run", Path(), replace(result, status="ok"))], published=[])
    sources = sorted({labels[row.label_source] for row in result.rows})
    made_with = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return f"""---
library_name: uap-lightning
pipeline_tag: image-classification
tags: [adversarial-defense, universal-adversarial-perturbation]
---

# Defence of {network} against universal adversarial perturbations

A rectifier and a detector to put in front of the classifier, which stays as it is: the detector
decides from what the rectifier removes whether an image is perturbed, and only then the network is
given the rectified image. After Akhtar, Liu and Mian, CVPR 2018.

## Trained on

| | |
| --- | --- |
| Target network | {network}, {known.get("classes", "?")} classes |
| Images | {known["data"]}, RGB, {size} x {size} pixels, values 0-255 |
| Perturbations | {known["train_norm"]}, eps {condition["eps"]:g} (pixel units at this size), \
{for_markdown(_crafted(result))} |
| Rectifier, detector | {known["rectifier"]}, {known["detector"]} |{_origins(condition)}
| Seed | {known["seed"]} |
| Made with | {for_markdown(made_with)} |

## Measured

On photographs and perturbations that training has not seen, counted against \
{" and ".join(sources) or "nothing: there are no results"}. The undefended rate is the floor of
the defense rate: what no defence at all scores. Intervals are 95 % bootstrap intervals over
photographs; those in round brackets hold for other perturbations of the same kind as well.

{markdown(norm_tables(rows), [])}
## Limits

- The perturbations above are of the family it was trained on. Families it has not seen are
  rectified less well, and how much less is not known until it is measured.
- Nobody attacked the defence itself for these numbers. An adaptive attack, which crafts through
  rectifier and detector, should be expected to do better: `uap_lightning.guard.adapters` gives
  the guard to ART and foolbox, with gradients through its decision.
- Another network can be put behind it, but the numbers hold for {network} alone.
- Every image passes the rectifier, because the detector needs what it removes: that is the cost.

## Use

```python
from uap_lightning import Guard

guard = Guard.load("FOLDER", network=my_model)  # any nn.Module classifier: pixels 0-255 to logits
logits = guard(images)  # N x 3 x {size} x {size}, RGB, 0-255, uint8 or float
seen = guard.inspect(images)  # logits, detector score, decision, rectified images
```

`mean=` and `std=` of `Guard.load`, in pixel units, normalise for a network that expects it.
`python -m uap_lightning.predict defense=FOLDER network=NAME images=IMAGES output=FILE.csv`
classifies a folder.

```json
{json.dumps(dict(condition), indent=2)}
```
"""


def _origins(condition: Mapping[str, object]) -> str:
    """Rows of the table where the training built on another one."""
    said = {"start": "Began with", "teacher": "Taught by"}
    return "".join(
        f"\n| {words} | the rectifier of the defence with SHA-256 {condition[key]} |"
        for key, words in said.items()
        if key in condition
    )


def _crafted(result: RunResult) -> str:
    """Where the real perturbations are from and how many there are in the end, in words."""
    path, train, extended = (result.setting("bank", key) for key in ("path", "train", "extended"))
    attack = result.setting("attack", "name")
    source = f"those of the bank {Path(path).name}" if path else f"{train} crafted by {attack}"
    return f"{source} and extended to {extended}"
