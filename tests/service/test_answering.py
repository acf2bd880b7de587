"""Answers are the guard's own."""

import numpy as np
import pytest
import torch

from tests.guard.streamed import attacked, make_guard, make_whitener, perturbation
from tests.tiny import scenes
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.service.answering import Answering, Question

NAMES = [f"name {n}" for n in range(14)]


def questions(images, logits=False):
    return [Question(image.permute(1, 2, 0).numpy(), logits) for image in images]


def test_without_memory_an_answer_is_what_the_guard_inspects():
    guard, images = make_guard(), scenes(12, seed=3)
    images[6:] = attacked(images[6:], perturbation(eps=16.0))
    seen = guard.inspect(images)
    answers = Answering(guard, NAMES)(questions(images, logits=True))
    for place, answer in enumerate(answers):
        assert torch.equal(torch.tensor(answer["logits"]), seen.logits[place])
        assert answer["label"] == int(seen.logits[place].argmax())
        assert answer["class"] == NAMES[answer["label"]]
        sure = float(seen.logits[place].softmax(0).max())
        assert answer["confidence"] == pytest.approx(sure, rel=1e-5)
        assert answer["perturbed"] == bool(seen.perturbed[place])
        assert answer["score"] == float(seen.score[place])
        assert answer["pattern"] is None
    assert len({answer["perturbed"] for answer in answers}) == 2
    assert all(a["logits"] is None for a in Answering(guard, NAMES)(questions(images)))


def test_with_memory_a_pattern_is_named_and_the_score_stays_the_detectors():
    guard, images = make_guard(), scenes(40, seed=3)
    given = torch.cat([images[:24], attacked(images[24:], perturbation())])
    answering = Answering(StreamGuard(guard, make_whitener()), NAMES)
    answers = [answer for batch in given.split(8) for answer in answering(questions(batch))]
    assert all(answer["pattern"] is None for answer in answers[:24])
    [name] = {answer["pattern"] for answer in answers[-8:]}
    assert name in answering.guard.known
    assert all(answer["perturbed"] for answer in answers[-8:])
    own = guard.inspect(given[-8:]).score
    assert [answer["score"] for answer in answers[-8:]] == pytest.approx(own.tolist(), rel=1e-4)


def test_what_is_not_finite_is_no_answer_and_the_others_are():
    guard, images = make_guard(), scenes(3, seed=3)
    weight = guard.network.model.weight
    one = guard.network.model

    class Breaks(torch.nn.Module):
        def forward(self, batch):
            logits = one(batch)
            logits[1, 2] = -torch.inf  # which leaves the confidence a number
            return logits

    assert weight.isfinite().all()
    guard.network.model = Breaks()
    first, second, third = Answering(guard, NAMES)(questions(images))
    assert second is None
    assert np.isfinite([first["confidence"], third["confidence"]]).all()
