"""Where example inputs come from when the user gives none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sdk
from edgewright_export.example import given, inferred


class Described(nn.Module):
    def __init__(self, **what):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        for name, value in what.items():
            setattr(self, name, value)


def test_lightning():
    example = inferred(Described(example_input_array=torch.zeros(2, 3, 8, 8)))
    assert example.args[0].shape == (2, 3, 8, 8) and "example_input_array" in example.source
    assert set(inferred(Described(example_input_array={"x": torch.zeros(1)})).kwargs) == {"x"}


@pytest.mark.parametrize("name", ["default_cfg", "pretrained_cfg"])
def test_timm(name):
    example = inferred(Described(**{name: {"input_size": (3, 24, 32)}}))
    assert example.args[0].shape == (1, 3, 24, 32) and "input_size" in example.source


def test_transformers_configurations():
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = inferred(BertModel(BertConfig(vocab_size=50, max_position_embeddings=12, **small)))
    assert text.kwargs["input_ids"].shape == (1, 12) and int(text.kwargs["input_ids"].max()) < 50
    image = inferred(ViTModel(ViTConfig(image_size=32, patch_size=8, **small)))
    assert image.kwargs["pixel_values"].shape == (1, 3, 32, 32)
    audio = WhisperEncoder(WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16))
    assert inferred(audio).kwargs["input_features"].shape == (1, 80, 3000)


def test_first_layer():
    assert inferred(nn.Sequential(nn.Flatten(), nn.Linear(7, 2))).args[0].shape == (1, 7)
    ids = inferred(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))).args[0]
    assert ids.dtype == torch.int64 and int(ids.max()) < 9
    half = inferred(nn.Linear(4, 2).half()).args[0]
    assert half.dtype == torch.float16


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (nn.Conv1d(2, 4, 3), "example_inputs=(torch.randn(1, 2, 1024),)"),
        (nn.Conv2d(3, 4, 3), "example_inputs=(torch.randn(1, 3, 224, 224),)"),
        (nn.Conv3d(1, 4, 3), "example_inputs=(torch.randn(1, 1, 16, 224, 224),)"),
    ],
)
def test_a_convolution_does_not_tell_its_sizes(layer, line):
    with pytest.raises(sdk.CaptureError) as caught:
        inferred(nn.Sequential(layer, nn.Flatten(), nn.Linear(4, 2)))
    assert line in str(caught.value)
    eval(line.removeprefix("example_inputs="))


def test_what_is_given():
    assert given(torch.zeros(2), None).args[0].shape == (2,)
    assert given({"a": torch.zeros(1)}, None).kwargs.keys() == {"a"}
    assert isinstance(given([torch.zeros(1).numpy()], None).args[0], torch.Tensor)
    with pytest.raises(sdk.OptionError, match="expected a tensor"):
        given("x", None)


def test_inferred_inputs_are_the_same_every_time():
    assert torch.equal(inferred(nn.Linear(3, 3)).args[0], inferred(nn.Linear(3, 3)).args[0])
