"""The mixture of experts, and a dense control of as many active parameters trained by the same lines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.reference_models.byte_lm.text import bits_per_byte, windows
from tests.reference_models.byte_lm.train import SOURCE, TASK, next_byte
from tests.reference_models.byte_moe.model import MixtureOfExperts, byte_moe, dense_control
from tests.reference_models.data import sotu
from tests.reference_models.trained import Trained

BALANCE, STEPS = 0.01, 700
STATISTICS_WINDOWS = 64


def train(name: str, seed: int) -> Trained:
    """Trains both; only the mixture is kept."""
    data = sotu.load()
    torch.manual_seed(seed)
    control = dense_control()
    control_minutes = next_byte(control, data.train, seed, STEPS)
    control_bits = bits_per_byte(control, data.validation, control.context)
    print(f"dense control: {control_bits:.4f} bits per byte", flush=True)
    torch.manual_seed(seed)
    model = byte_moe()
    minutes = next_byte(model, data.train, seed, STEPS, BALANCE)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {
            "validation_bits_per_byte": bits_per_byte(trained, data.validation, model.context),
            "dense_control_bits_per_byte": control_bits,
        }

    def notes(trained: nn.Module) -> dict[str, object]:
        return {
            "dense_control_minutes": round(control_minutes, 1),
            "dense_control_parameters": sum(p.numel() for p in control.parameters()),
            "active_parameters": _active(trained),
            "router": router_statistics(trained, data.validation),
        }

    return Trained(model, evaluate, TASK, SOURCE, data.sha256, seed, STEPS, minutes, notes)


def router_statistics(model: nn.Module, text: Tensor) -> list[dict[str, object]]:
    """For each layer on the same random validation windows.

    ``load``: share of the bytes' choices that fell on each expert (sums to 1; even is 1 / experts).
    ``top1_weight``: mean renormalized weight of the first choice.  ``entropy_bits``: mean entropy of the router's
    probabilities.  ``repeat``: share of a byte's two experts that its predecessor used too.
    """
    rows: list[dict[str, object]] = []
    hooks = [
        layer.feed_forward.router.register_forward_hook(lambda module, x, logits: rows.append(_one(logits)))
        for layer in model.layers
    ]
    ids, _ = next(windows(text, model.context, STATISTICS_WINDOWS, seed=0))
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    return rows


def _one(logits: Tensor) -> dict[str, object]:
    probabilities = logits.softmax(-1)
    weight, chosen = probabilities.topk(2, -1)
    load = torch.bincount(chosen.flatten(), minlength=logits.shape[-1]).double() / chosen.numel()
    repeated = (chosen[:, 1:, :, None] == chosen[:, :-1, None, :]).any(-1).double().mean()
    return {
        "load": [round(x, 4) for x in load.tolist()],
        "top1_weight": round((weight[..., 0] / weight.sum(-1)).mean().item(), 4),
        "entropy_bits": round(-(probabilities * probabilities.clamp_min(1e-12).log2()).sum(-1).mean().item(), 4),
        "repeat": round(repeated.item(), 4),
    }


def _active(model: nn.Module) -> int:
    """Parameters that one byte meets."""
    total = sum(p.numel() for p in model.parameters())
    for layer in model.layers:
        mixture = layer.feed_forward
        assert isinstance(mixture, MixtureOfExperts)
        idle = len(mixture.experts) - mixture.top
        total -= idle * sum(p.numel() for p in mixture.experts[0].parameters())
    return total
