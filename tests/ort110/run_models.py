"""Runs every ``*.onnx`` of a folder on the ``*.in.npz`` beside it, with whatever onnxruntime is there.

Writes ``*.out.npz``, or ``*.error`` with the first line of the message.  Plain enough for the Python 3.6
of the last onnxruntime that the stock image of the Jetson Nano can install.
"""

import glob
import os
import sys

import numpy as np
import onnxruntime


def run(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with np.load(path[: -len(".onnx")] + ".in.npz") as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    return session.run(None, feeds)


def main(folder):
    print(onnxruntime.__version__)
    for path in sorted(glob.glob(os.path.join(folder, "*.onnx"))):
        stem = path[: -len(".onnx")]
        try:
            outputs = run(path)
        except Exception as error:  # onnxruntime's own errors derive from Exception only
            with open(stem + ".error", "w") as file:
                file.write(str(error).splitlines()[0])
        else:
            np.savez(stem + ".out.npz", *outputs)


if __name__ == "__main__":
    main(sys.argv[1])
