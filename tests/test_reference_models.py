"""The reference models: what the cards say is what is stored, and every model exports in every format."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
import torch

import sdk
from apps import assets
from tests import reference_models
from tests.reference_models import MODELS, training
from tests.reference_models.byte_lm.text import bits_per_byte
from tests.reference_models.byte_moe.model import MixtureOfExperts
from tests.reference_models.data import watch
from tests.reference_models.table import README, text

LEAST = {"mobilenet_v1_fmnist": 93.0, "vit_fmnist": 90.5}
MOST_BITS = {"byte_lm": 2.1, "byte_lm_relu": 2.1}
FORMATS = ["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in ("executorch", "tflite"))]
"""The slow converters have a run of their own: ``make reference-exports``."""


def example(name: str) -> tuple[torch.Tensor, ...]:
    """One input of the model's own shape."""
    torch.manual_seed(0)
    if name.endswith("fmnist"):
        return (torch.randn(1, 1, 28, 28),)
    if name == "gru_imu":
        return (torch.randn(1, watch.WINDOW_SAMPLES, 6),)
    return (torch.randint(0, 256, (1, 256)),)


@pytest.mark.parametrize("name", MODELS)
def test_the_card_describes_what_is_stored(name):
    card, content = reference_models.card(name), reference_models.weights_path(name).read_bytes()
    assert card.name == name and card.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert card.weights_bytes == len(content) <= 6_000_000
    assert card.parameters == sum(p.numel() for p in reference_models.load(name).parameters())
    if name in LEAST:
        assert card.figures["test_accuracy_percent"] >= LEAST[name]
    if name in MOST_BITS:
        assert card.figures["validation_bits_per_byte"] <= MOST_BITS[name]


def test_the_mixture_is_no_worse_than_its_dense_control():
    card = reference_models.card("byte_moe")
    assert card.figures["validation_bits_per_byte"] <= card.figures["dense_control_bits_per_byte"]
    assert card.notes["active_parameters"] <= 1.02 * card.notes["dense_control_parameters"]
    assert [len(layer["load"]) for layer in card.notes["router"]] == [16] * 4


def test_all_weights_together_are_small():
    assert sum(reference_models.weights_path(name).stat().st_size for name in MODELS) <= 20_000_000


@pytest.mark.parametrize("name", MODELS)
def test_loading_takes_less_than_half_a_second(name):
    """The best of three, since other work on the machine takes its time too."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model = reference_models.load(name)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())


def test_the_table_is_made_from_the_cards():
    assert README.read_text() == text()


def test_both_forms_of_the_mixture_agree():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(8, 6, experts=4, top=2).eval()
    x = torch.randn(2, 5, 8)
    exported = torch.export.export(mixture, (x,)).module()
    torch.testing.assert_close(exported(x), mixture(x))


def test_bits_per_byte_of_a_uniform_model_are_eight():
    uniform = lambda ids: torch.zeros(*ids.shape, 256)  # noqa: E731
    assert bits_per_byte(uniform, torch.arange(1000).to(torch.uint8), 64) == pytest.approx(8)


@pytest.mark.real
def test_the_recurrent_models_figure_is_measured_again():
    try:
        data = watch.load()
    except assets.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the data is not cached and cannot be downloaded: {error}")
    card = reference_models.card("gru_imu")
    assert data.sha256 == card.data_sha256
    found = training.accuracy(reference_models.load("gru_imu"), data.test_x, data.test_y)
    assert found == pytest.approx(card.figures["test_accuracy_percent"], abs=0.05)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_exports(name, format, tmp_path):
    bundle = sdk.export(
        reference_models.load(name),
        "raspberry-pi-5",
        format=format,
        example_inputs=example(name),
        output=tmp_path / "model.edge",
    )
    assert bundle.format == format and bundle.parity.snr_db >= 80
