"""Whisper tiny.en: encoder and decoder as entries of one bundle, keys and values as its states."""

from __future__ import annotations

import difflib

import numpy as np
import pytest
import torch

import sdk
from apps import whisper
from edgewright_runtime.native_library import Model
from tests.native import whisper_bundle
from tests.native.whisper_bundle import START, WITHOUT_TIMES, next_scores, text, transcribe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper") / "whisper.edge"
    return folder, whisper_bundle.write(folder)


@pytest.fixture(scope="module")
def opened(manifest):
    model = Model(manifest[0])
    return model, model.session(entry="encode"), model.session()


def snr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def test_both_entries_are_verified_and_share_one_file_of_weights(manifest):
    _, made = manifest
    assert set(made.entries) == {"main", "encode"} and set(made.files) == {"model.onnx", "encode.onnx", "weights.bin"}
    assert min(output.snr_db for output in made.parity.outputs) > 80
    assert made.files["weights.bin"].bytes < 4.001 * sum(p.numel() for p in whisper.whisper_tiny_en().parameters())


def test_the_decoder_writes_new_positions_only(opened):
    _, _, decode = opened
    ops = [step.op for step in decode.steps()]
    assert ops.count("Append") == 2 * whisper.LAYERS and ops.count("Attention") == 2 * whisper.LAYERS


def test_without_a_state_the_past_is_passed_like_other_inputs(manifest):
    with sdk.load(manifest[0]) as session:
        inputs = session.sample_inputs()
        results = session.run(inputs)
    assert results["present_k0"].shape[2] == inputs["past_k0"].shape[2] + inputs["tokens"].shape[1]


def test_spoken_sentences_are_written_down(opened):
    model, encode, decode = opened
    state = model.state()
    for samples, words in whisper.sentences():
        found = text(transcribe(encode, decode, state, samples))
        wanted = words.replace("mister", "mr")
        assert difflib.SequenceMatcher(None, found.split(), wanted.split()).ratio() > 0.7, (found, wanted)


def test_every_step_has_the_scores_of_the_whole_module(opened):
    model, encode, decode = opened
    samples, _ = whisper.sentences()[0]
    state = model.state()
    tokens = [START, WITHOUT_TIMES, *transcribe(encode, decode, state, samples)]
    with torch.no_grad():
        module = whisper.whisper_tiny_en()
        sound = torch.from_numpy(whisper.spectrogram(samples))
        wanted = module(sound, decoder_input_ids=torch.tensor([tokens])).logits[0].numpy()
    state.truncate(0)
    found = [next_scores(decode, [token], position) for position, token in enumerate(tokens)]
    assert min(snr_db(w, f) for w, f in zip(wanted, found, strict=True)) > 80
    fork = state.fork()
    state.truncate(5)
    fork.truncate(5)
    for one in (state, fork):  # eight at once, from a position in the middle
        decode.set_state(one)
        assert snr_db(wanted[12], next_scores(decode, tokens[5:13], 5)) > 80
