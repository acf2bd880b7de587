"""A stream given to a guard with memory, batch by batch, and its answers together."""

import torch


def walk(guard, images, batch=6):
    """The answers to a stream, together."""
    parts = [guard(part) for part in torch.split(images, batch)]
    names = [name for part in parts for name in part.pattern]
    return torch.cat([part.logits for part in parts]), names, parts


def suspected(parts):
    return torch.cat([part.suspected for part in parts])
