"""Says what photos show, or what the Raspberry Pi's camera sees.

python3 classify.py model.edge photo.jpg ...
python3 classify.py model.edge --camera
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import sdk


def camera_frames(count: int | None) -> Iterator[tuple[str, Any]]:
    """Names and images of the camera, as many as asked for or without end."""
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        sys.exit(
            f"classify.py: {error}; sudo apt-get install python3-picamera2, in an environment made by "
            "python3 -m venv --system-site-packages"
        )
    with Picamera2() as camera:
        camera.start()
        for number in itertools.islice(itertools.count(1), count):
            yield f"frame {number}", camera.capture_image()


def classify(session: sdk.Session, name: str, photo: Any, top_k: int | None) -> None:
    """Prints the best classes of a photo and the time from the open photo to the answer."""
    start = time.perf_counter()
    found = session.classify(photo, top_k=top_k)
    milliseconds = (time.perf_counter() - start) * 1e3
    print(f"{name}: {milliseconds:.1f} ms, measured")
    for place, row in enumerate(found, 1):
        print(f"{place:2}  {row.score:.4f}  {row.label}", flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="classify.py", description="Says what photos show, or what the camera sees.")
    parser.add_argument("bundle", help="model.edge or model.edgez, exported with preprocess=sdk.Image(...)")
    parser.add_argument("photos", nargs="*", metavar="photo", help="any file that Pillow reads")
    parser.add_argument("--camera", action="store_true", help="classify what the camera sees until Ctrl-C")
    parser.add_argument("--count", type=int, help="with --camera: stop after so many frames")
    parser.add_argument("--top-k", type=int, help="classes to print; default: what the bundle says")
    options = parser.parse_args(arguments)
    if options.camera == bool(options.photos):
        parser.error("give either photos or --camera")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    options = parse(arguments)
    try:
        with sdk.load(options.bundle) as session:
            given = ((name, name) for name in options.photos)
            frames = camera_frames(options.count) if options.camera else given
            for name, photo in frames:
                classify(session, name, photo, options.top_k)
    except sdk.EdgewrightError as error:
        sys.exit(f"classify.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
