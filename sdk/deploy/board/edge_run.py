"""Runs an Edgewright bundle on a board with nothing but numpy, one engine, and Pillow for photos.

    python3 edge_run.py photo.jpg                  top 5 and milliseconds
    python3 edge_run.py input.npy                  a bundle with one input
    python3 edge_run.py ids=ids.npy mask=mask.npy  a bundle with several inputs
    python3 edge_run.py                            milliseconds on made-up inputs
    python3 edge_run.py --verify                   checks every hash and runs nothing

Exit codes: 0 done, 2 wrong usage, 3 the bundle is damaged, 4 something is not installed, 5 an
input does not fit, 6 the engine failed, 7 a folder holds other people's files.

This file stands alone and keeps to the syntax of Python 3.6, which is what the oldest supported
board ships; nothing but the standard library is imported before it is needed, so that
``--verify`` works on a bare board.
"""

import argparse
import datetime
import hashlib
import importlib
import json
import os
import platform
import stat
import sys
import time

DAMAGED, MISSING, INPUT, ENGINE, FOREIGN = 3, 4, 5, 6, 7
MANIFEST, MANIFEST_HASH, DEPLOYMENT = "manifest.json", "manifest.sha256", "deployment.json"
TOOL = "edgewright deploy"
MAJOR = 1
MADE_UP = "made-up inputs"
MANIFEST_MAX_BYTES = 64 << 20


class Failure(Exception):
    """An error with its exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# The bundle: opened only if every core byte is as sealed.


def open_bundle(folder):
    """Returns (manifest, sha256 of the manifest) after checking the list and the hash of every core file."""
    data = read_small(folder, MANIFEST)
    actual = hashlib.sha256(data).hexdigest()
    if read_small(folder, MANIFEST_HASH) != actual.encode() + b"\n":
        raise Failure(DAMAGED, f"{folder}: {MANIFEST} does not match {MANIFEST_HASH}; deploy the bundle again")
    manifest = parse_manifest(data)
    problems = listing_problems(folder, manifest)
    if not problems:
        problems = [text for name in sorted(manifest["files"]) for text in content_problems(folder, manifest, name)]
    if problems:
        raise Failure(DAMAGED, f"{folder} is not as sealed: {'; '.join(problems[:8])}; deploy the bundle again")
    return manifest, actual


def read_small(folder, name):
    path = os.path.join(folder, name)
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MANIFEST_MAX_BYTES:
            raise Failure(DAMAGED, f"{path} is no plain file of up to {MANIFEST_MAX_BYTES} bytes; deploy it again")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure(DAMAGED, f"{folder} is not a bundle: {name}: {error.strerror}; deploy it again") from error


def parse_manifest(data):
    try:
        manifest = json.loads(data.decode("utf-8"))
        major = int(manifest["schema"].split(".")[0])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Failure(DAMAGED, f"{MANIFEST} is not a manifest: {error!r}; deploy the bundle again") from error
    if major != MAJOR:
        raise Failure(DAMAGED, f"the bundle's schema is {major}.x, this runner reads {MAJOR}.x; deploy it again")
    return manifest


def listing_problems(folder, manifest):
    listed = set(manifest["files"])
    problems = [f"{name!r} leaves the bundle" for name in sorted(listed) if not is_inside(name)]
    reserved = {MANIFEST, MANIFEST_HASH, "report.html"}
    problems += [f"{name!r} cannot be a core file" for name in sorted(listed & reserved)]
    used = {entry["file"] for entry in manifest["entries"].values()}
    used |= {segment["file"] for segment in manifest["segments"]}
    used |= {manifest["labels"]} if manifest["labels"] else set()
    problems += [f"{name!r} is used but not listed" for name in sorted(used - listed)]
    if "main" not in manifest["entries"]:
        problems.append("there is no entry 'main'")
    present, odd = plain_files(folder)
    problems += odd
    problems += [f"{name} is missing" for name in sorted(listed - present)]
    beside = ("measurements/", ".report.html.")
    extra = (name for name in present - listed - reserved if not name.startswith(beside))
    return problems + [f"{name} is not listed" for name in sorted(extra)]


def is_inside(name):
    parts = name.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not any(c in name for c in "\\\0:")


def plain_files(folder):
    found, odd = set(), []
    for root, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                odd.append(f"{relative} is a link or device, not a plain file")
    return found, odd


def content_problems(folder, manifest, name):
    core, path = manifest["files"][name], os.path.join(folder, name)
    try:
        size = os.path.getsize(path)
        if size != core["bytes"]:
            return [f"{name} has {size} bytes, sealed were {core['bytes']}"]
        return [] if file_sha256(path) == core["sha256"] else [f"{name} has changed"]
    except OSError as error:
        return [f"{name} cannot be read: {error.strerror}"]


def file_sha256(path: "str | os.PathLike[str]") -> str:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            whole.update(chunk)
    return whole.hexdigest()


# The deployment: what stands around the bundle.


def read_deployment(folder):
    """What ``edgewright deploy`` wrote into a folder about itself, or None where the folder is not its work."""
    try:
        with open(os.path.join(folder, DEPLOYMENT), "rb") as file:
            plain = json.loads(file.read(MANIFEST_MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(plain, dict) and plain.get("tool") == TOOL
    return plain if ours and isinstance(plain.get("files"), dict) and isinstance(plain.get("bundle"), str) else None


def replace_problem(folder: str) -> "str | None":
    """Why a folder must not be replaced by a deployment, or None: it is missing, empty, or all ours."""
    if os.path.islink(folder):
        return f"{folder} is a link; name the folder itself"
    if not os.path.lexists(folder):
        return None
    if not os.path.isdir(folder):
        return f"{folder} exists and is not a folder"
    names = set(os.listdir(folder))
    if not names:
        return None
    deployment = read_deployment(folder)
    if deployment is None:
        return f"{folder} is not empty and not an earlier deployment; choose another folder or empty it"
    ours = {name.split("/")[0] for name in deployment["files"]}
    foreign = sorted(names - ours - {deployment["bundle"], DEPLOYMENT})
    return f"{folder} also holds {', '.join(foreign[:4])}; move that out first" if foreign else None


def script_problems(folder, deployment):
    problems = []
    for name, sha256 in sorted(deployment["files"].items()):
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or os.path.islink(path):
            problems.append(f"{name} is missing")
        elif file_sha256(path) != sha256:
            problems.append(f"{name} has changed")
    return problems


# Photos: the same arithmetic, in the same order and precision, as Edgewright's own sessions.

FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def load_photo(path, image):
    """A photo as the float32 tensor that the manifest's ``preprocess`` record describes."""
    np = package("numpy", "numpy")
    pixels = np.asarray(square(open_photo(path), image), dtype=np.float32)
    mean, std = np.float32(image["mean"]), np.float32(image["std"])
    values = (pixels * np.float32(image["scale"]) - mean) / std
    if image["layout"] == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None], dtype=np.float32)


def square(photo, image):
    size = image["size"]
    short = round(size / image["crop"])
    width, height = photo.size
    ratio = short / min(width, height)
    target = (max(short, round(width * ratio)), max(short, round(height * ratio)))
    kind = FILTERS[image["resize"]]  # in two steps, because Pillow from 13 on would scale a tower in height first
    scaled = photo.resize((target[0], height), kind).resize(target, kind)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def eight_bit(photo, format):
    if photo.mode.startswith("I;16") or (photo.mode == "I" and format == "PNG"):
        pil, numpy = package("PIL.Image", "Pillow"), package("numpy", "numpy")
        return pil.fromarray((numpy.asarray(photo) >> 8).astype("uint8"))
    if photo.mode in ("I", "F"):
        raise Failure(INPUT, f"a photo of mode {photo.mode} has no fixed range; convert it to 8 bits first")
    return photo


def open_photo(path):
    pil = package("PIL.Image", "Pillow")
    try:
        photo = pil.open(path)
        upright = eight_bit(turn_upright(photo), photo.format)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            upright = pil.alpha_composite(pil.new("RGBA", upright.size, (0, 0, 0, 255)), upright)
        return upright.convert("RGB")
    except (OSError, TypeError, ValueError, SyntaxError, pil.DecompressionBombError) as error:
        raise Failure(INPUT, f"cannot read a photo from {path!r}: {error}") from error


def turn_upright(photo):
    turn = getattr(package("PIL.ImageOps", "Pillow"), "exif_transpose", None)
    if turn is not None:
        return turn(photo)
    exif = getattr(photo, "_getexif", dict)() or {}  # Pillow before 6.0 has no exif_transpose
    return photo.transpose(TURNS[exif[274]]) if exif.get(274) in TURNS else photo


def rank(scores, post, labels):
    """The best classes, best first; ties go to the lower index."""
    np = package("numpy", "numpy")
    row = np.asarray(scores, dtype=np.float64).squeeze()
    row = row[None] if row.ndim == 0 else row
    if row.ndim != 1:
        raise Failure(INPUT, f"ranking needs one row of scores, the output has shape {np.shape(scores)}")
    if labels is not None and len(labels) != row.size:
        raise Failure(DAMAGED, f"the bundle has {len(labels)} labels, the output has {row.size} classes")
    if post["softmax"]:
        raised = np.exp(row - row.max())
        row = raised / raised.sum()
    best = np.argsort(-row, kind="stable")[: post["top_k"]]
    return [{"index": int(i), "label": labels[i] if labels else str(i), "score": finite(row[i])} for i in best]


def finite(value):
    value = float(value)
    return value if abs(value) < float("inf") else None


# Inputs.


def make_runs(arguments, manifest):
    """What to run: (name, arrays in the order of the inputs) for each argument."""
    inputs = manifest["entries"]["main"]["inputs"]
    named = [split_named(text, inputs) for text in arguments]
    if any(named):
        if not all(named):
            raise Failure(INPUT, "give either name=file.npy for every input or files without names, not both")
        arrays = {name: load_array(path) for name, path in named}
        if len(arrays) != len(named):
            raise Failure(INPUT, "an input is given twice")
        return [(" ".join(arguments), bind(arrays, inputs))]
    return [one_run(text, manifest) for text in arguments] or [(MADE_UP, make_up(inputs))]


def split_named(text, inputs):
    name, equals, path = text.partition("=")
    return (name, path) if equals and name in [spec["name"] for spec in inputs] else None


def one_run(path, manifest):
    inputs = manifest["entries"]["main"]["inputs"]
    if path.endswith(".npy"):
        if len(inputs) != 1:
            raise Failure(INPUT, f"the bundle has {len(inputs)} inputs; give name=file.npy for each: {listing(inputs)}")
        return path, bind({inputs[0]["name"]: load_array(path)}, inputs)
    if len(manifest["preprocess"]) != 1:
        raise Failure(INPUT, f"{path!r}: the bundle has no preprocess, give .npy files: {listing(inputs)}")
    ((name, image),) = manifest["preprocess"].items()
    return path, bind({name: load_photo(path, image)}, inputs)


def load_array(path):
    np = package("numpy", "numpy")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Failure(INPUT, f"cannot read an array from {path!r}: {error}") from error


def bind(arrays, inputs):
    np = package("numpy", "numpy")
    problems = [f"{spec['name']!r} is missing" for spec in inputs if spec["name"] not in arrays]
    sizes = {}
    for spec in inputs:
        if spec["name"] in arrays:
            problems += mismatches(spec, arrays[spec["name"]], sizes)
    if problems:
        raise Failure(INPUT, f"{'; '.join(problems)}; expected {listing(inputs)}")
    return [np.ascontiguousarray(arrays[s["name"]]).reshape(arrays[s["name"]].shape) for s in inputs]


def mismatches(spec, array, sizes):
    problems = []
    if str(array.dtype) != spec["dtype"]:
        problems.append(f"{spec['name']!r} has dtype {array.dtype}, expected {spec['dtype']}")
    if len(array.shape) != len(spec["shape"]) or not all(map(fits(spec), spec["shape"], array.shape)):
        return problems + [f"{spec['name']!r} has shape {array.shape}, expected {spec['shape']}"]
    for want, size in zip(spec["shape"], array.shape):
        if isinstance(want, str) and sizes.setdefault(want, size) != size:
            problems.append(f"dimension {want!r} is {sizes[want]} and {size} at once")
    return problems


def fits(spec):
    def check(want, size):
        if not isinstance(want, str):
            return want == size
        bounds = spec["bounds"].get(want)
        return bounds is None or bounds["min"] <= size <= bounds["max"]

    return check


def listing(inputs):
    return ", ".join(f"{spec['name']}: {spec['dtype']}{spec['shape']}" for spec in inputs)


def make_up(inputs):
    """Inputs for timing alone: noise in 0..1, zeros for integers, dynamic dimensions at their largest."""
    np = package("numpy", "numpy")
    noise = np.random.RandomState(0)
    arrays = []
    for spec in inputs:
        shape = [spec["bounds"].get(n, {"max": 1})["max"] if isinstance(n, str) else n for n in spec["shape"]]
        floating = spec["dtype"].startswith("float")
        arrays.append((noise.random_sample(shape) if floating else np.zeros(shape)).astype(spec["dtype"]))
    return arrays


# Engines.  Each opener returns (run, package, version); run maps arrays to arrays.


def own_library():
    """The library that brings edgewright::Subgraph into an engine; None where the bundle does not need it."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libedgewright.so")
    return path if os.path.isfile(path) else None


def open_onnxruntime(path, entry, threads):
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    engine = package("onnxruntime", "onnxruntime")
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    library = own_library()
    if library is not None:
        options.add_session_config_entry("edgewright.threads", str(threads))
        options.register_custom_ops_library(library)
    session = engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ins, outs = ([spec["binding"] for spec in entry[side]] for side in ("inputs", "outputs"))
    return lambda arrays: session.run(outs, dict(zip(ins, arrays))), "onnxruntime", engine.__version__


def open_litert(path, entry, threads):
    name, module = first_package(("ai_edge_litert", "tflite_runtime"))
    library = own_library()
    delegates = [] if library is None else [module.load_delegate(library, {"threads": threads})]
    interpreter = module.Interpreter(model_path=path, num_threads=threads, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    ins, outs = litert_indices(interpreter, entry)

    def run(arrays):
        details = {detail["index"]: detail for detail in interpreter.get_input_details()}
        changed = [(i, a.shape) for i, a in zip(ins, arrays) if tuple(details[i]["shape"]) != a.shape]
        for index, shape in changed:
            interpreter.resize_tensor_input(index, shape)
        if changed:
            interpreter.allocate_tensors()
        for index, array in zip(ins, arrays):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outs]

    return run, name, getattr(importlib.import_module(name), "__version__", "unknown")


def litert_indices(interpreter, entry):
    signatures = interpreter.get_signature_list()
    if not signatures:
        sides = interpreter.get_input_details(), interpreter.get_output_details()
        return tuple([detail["index"] for detail in side] for side in sides)
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    sides = (entry["inputs"], runner.get_input_details()), (entry["outputs"], runner.get_output_details())
    return tuple([details[spec["binding"]]["index"] for spec in specs] for specs, details in sides)


def open_executorch(path, entry, threads):
    library = package("executorch.extension.pybindings.portable_lib", "executorch")
    torch = package("torch", "torch")
    library._unsafe_reset_threadpool(threads)
    module = library._load_for_executorch(path)
    outs = [int(spec["binding"]) for spec in entry["outputs"]]

    def run(arrays):
        results = module.forward([torch.from_numpy(array) for array in arrays])
        return [results[index].numpy() for index in outs]

    return run, "executorch", getattr(importlib.import_module("executorch.version"), "__version__", "unknown")


def open_native(path, entry, threads):
    engine = package("native_library", "native_library.py")
    bounds = {
        f"{spec['binding']}:{axis}": (spec["bounds"][name]["min"], spec["bounds"][name]["max"])
        for spec in entry["inputs"]
        for axis, name in enumerate(spec["shape"])
        if isinstance(name, str)
    }
    folder = os.path.dirname(path)  # the bundle, where packed weights are found too; its hashes were compared
    source = folder if os.path.isfile(os.path.join(folder, "manifest.json")) else path
    session = engine.Model(source, check=False).session(bounds=bounds, threads=threads)
    deployment = read_deployment(os.path.dirname(os.path.abspath(__file__))) or {}
    return session.run, "native", deployment.get("edgewright", "unknown")


ENGINES = {
    "executorch": open_executorch,
    "litert": open_litert,
    "native": open_native,
    "onnxruntime": open_onnxruntime,
}


def open_engine(folder, manifest, threads):
    need = manifest["engine"]
    if need["name"] not in ENGINES:
        raise Failure(ENGINE, f"the bundle needs engine {need['name']!r}; this runner has {', '.join(sorted(ENGINES))}")
    lacking = sorted(set(need["cpu_features"]) - cpu_features()) if cpu_features() else []
    if lacking:
        raise Failure(ENGINE, f"this processor lacks {', '.join(lacking)}; export the bundle for this board")
    entry = manifest["entries"]["main"]
    try:
        return ENGINES[need["name"]](os.path.join(folder, entry["file"]), entry, threads)
    except Failure:
        raise
    except MemoryError:
        raise Failure(ENGINE, "not enough memory to open the model") from None
    except Exception as error:
        raise Failure(ENGINE, f"{need['name']} cannot open the model: {error}") from error


def package(module, distribution):
    """Imports a module that has to be installed on the board."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        deployment = read_deployment(os.path.dirname(os.path.abspath(__file__))) or {}
        command = deployment.get("install") or f"{sys.executable} -m pip install {distribution}"
        text = f"{distribution} is not usable in {sys.executable} ({error}); install it: {command}"
        raise Failure(MISSING, text) from error


def first_package(names):
    for name in names[:-1]:
        try:
            return name, importlib.import_module(f"{name}.interpreter")
        except ImportError:
            continue
    return names[-1], package(f"{names[-1]}.interpreter", names[0].replace("_", "-"))


def outdated(manifest, engine, version):
    """A warning where the installed engine is outside the range that the bundle was verified for."""
    need = manifest["engine"]
    if engine.replace("_", "-") not in (need["name"], "ai-edge-litert"):
        return []
    low, high = need["min_version"], need["max_version"]
    if low and number(version) < number(low):
        return [f"{engine} {version} is older than {low}, which the bundle asks for"]
    if high and number(version)[: len(number(high))] > number(high):
        return [f"{engine} {version} is newer than {high}, the last that the bundle asks for"]
    return []


def number(version):
    parts = version.split("+")[0].split(".")
    return [int(part) for part in parts if part.isdigit()]


# Time.


def measure(call, samples, seconds):
    """Samples in seconds: warm up until stable, then at least so many and so long."""
    last = once(call)
    for _ in range(30):
        current = once(call)
        if abs(current - last) <= 0.05 * last:
            break
        last = current
    taken, total = [], 0.0
    while len(taken) < samples or total < seconds:
        taken.append(once(call))
        total += taken[-1]
    return taken


def once(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summary(samples):
    np = package("numpy", "numpy")
    median, p90 = float(np.median(samples)), float(np.percentile(samples, 90))
    return {"kind": "measured", "median_s": median, "p90_s": p90, "min_s": min(samples), "n": len(samples)}


def cpu_info():
    text = read_text("/proc/cpuinfo").split("\n\n")[0]
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_features():
    info = cpu_info()
    return set((info.get("flags") or info.get("Features") or "").split())


def machine():
    """Where the numbers come from."""
    info = cpu_info()
    return {
        "model": read_text("/proc/device-tree/model").strip("\0\n "),
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "cpu_flags": info.get("flags") or info.get("Features") or "",
        "clock_mhz": info.get("cpu MHz") or str(clock_khz() // 1000 or ""),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def clock_khz():
    text = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").strip()
    return int(text) if text.isdigit() else 0


def read_text(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def usable_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_bytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# The command.


def run_bundle(folder, options):
    """Opens, runs and times the bundle; returns what ``--json`` prints."""
    manifest, sha256 = open_bundle(folder)
    package("numpy", "numpy")
    threads = options.threads or min(manifest["recipe"]["threads"], usable_cores())
    runs = make_runs(options.inputs, manifest)
    run, engine, version = open_engine(folder, manifest, threads)
    told = {
        "bundle": os.path.basename(folder),
        "manifest_sha256": sha256,
        "device": manifest["device"],
        "engine": manifest["engine"]["name"],
        "engine_version": version,
        "threads": threads,
        "results": run_all(run, runs, folder, manifest, options.out),
        "warnings": outdated(manifest, engine, version),
    }
    told.update(timed(lambda: guarded(run, runs[0][1]), options.quick))
    told.update(surroundings(engine, version))
    return told


def run_all(run, runs, folder, manifest, out):
    labels = read_labels(folder, manifest)
    names = [spec["name"] for spec in manifest["entries"]["main"]["outputs"]]
    results = []
    for position, (name, arrays) in enumerate(runs):
        outputs = dict(zip(names, guarded(run, arrays)))
        if out:
            save_outputs(out, position, outputs)
        results.append(result(name, outputs, manifest, labels))
    return results


def timed(call, quick):
    before = clock_khz()
    samples = measure(call, *((10, 0.1) if quick else (50, 1.0)))
    throttled = clock_khz() < 0.9 * before if before else None
    return {"samples_s": samples, "timing": summary(samples), "throttled": throttled}


def surroundings(engine, version):
    np = package("numpy", "numpy")
    return {
        "machine": machine(),
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": {engine: version, "numpy": np.__version__, "python": platform.python_version()},
        "date": datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat(),
    }


def guarded(run, arrays):
    try:
        return run(arrays)
    except MemoryError:
        raise Failure(ENGINE, "not enough memory to run the model") from None
    except Exception as error:
        raise Failure(ENGINE, f"the engine could not run the model: {error}") from error


def read_labels(folder, manifest):
    if not manifest["labels"]:
        return None
    with open(os.path.join(folder, manifest["labels"]), "rb") as file:
        text = file.read().decode("utf-8")
    return (text[:-1] if text.endswith("\n") else text).split("\n")


def result(name, outputs, manifest, labels):
    """What is said about one run: the best classes if the bundle can rank, else the outputs in short."""
    told = {"input": name, "outputs": [shape_of(key, value) for key, value in outputs.items()]}
    post = manifest["postprocess"]
    if post is not None and name != MADE_UP:
        told["top"] = rank(outputs[post["output"] or next(iter(outputs))], post, labels)
    return told


def shape_of(name, array):
    wanted = array.size and array.dtype.kind in "fiub"
    ends = [finite(array.min()), finite(array.max())] if wanted else None
    return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "range": ends}


def save_outputs(folder, position, arrays):
    np = package("numpy", "numpy")
    try:
        os.makedirs(folder, exist_ok=True)
        for name, array in arrays.items():
            np.save(os.path.join(folder, f"{position}-{name.replace('/', '_')}.npy"), array)
    except OSError as error:
        raise Failure(INPUT, f"cannot write the outputs to {folder}: {error.strerror}") from error


def print_plain(told, stream):
    for warning in told["warnings"]:
        sys.stderr.write(f"edge_run: warning: {warning}\n")
    for one in told["results"]:
        stream.write(f"{one['input']}\n")
        for place, guess in enumerate(one.get("top", ()), 1):
            score = "nan" if guess["score"] is None else f"{guess['score']:.4f}"
            stream.write(f"  {place}  {guess['label']}  {score}\n")
        if "top" not in one:
            for output in one["outputs"]:
                stream.write(f"  {output['name']}: {output['dtype']}{output['shape']}, range {output['range']}\n")
    timing = told["timing"]
    numbers = ", ".join(f"{key} {timing[key + '_s'] * 1e3:.3f} ms" for key in ("median", "p90", "min"))
    engine = f"{told['engine']} {told['engine_version']}"
    where = told["machine"]["model"] or told["machine"]["processor"]
    stream.write(f"{numbers}, n {timing['n']}, {told['threads']} threads, {engine}; measured on {where}\n")


def find_bundle(given):
    here = os.path.dirname(os.path.abspath(__file__))
    if given:
        return os.path.abspath(given)
    names = sorted(name for name in os.listdir(here) if name.endswith(".edge"))
    found = [name for name in names if os.path.isdir(os.path.join(here, name))]
    if len(found) != 1:
        raise Failure(DAMAGED, f"{here} holds {len(found)} bundles, expected one *.edge folder; name it with --bundle")
    return os.path.join(here, found[0])


def verify(folder):
    """Checks the bundle and the files around it; returns what ``--json`` prints."""
    manifest, sha256 = open_bundle(folder)
    around = os.path.dirname(folder)
    deployment = read_deployment(around)
    problems = script_problems(around, deployment) if deployment else []
    if deployment and deployment.get("manifest_sha256") != sha256:
        problems.append(f"the bundle is not the one that {DEPLOYMENT} names")
    if problems:
        raise Failure(DAMAGED, f"{around} is not as deployed: {'; '.join(problems)}; deploy the bundle again")
    count = len(manifest["files"])
    return {"bundle": os.path.basename(folder), "files": count, "manifest_sha256": sha256, "intact": True}


def parse(argv):
    about = "\n\n".join(__doc__.split("\n\n")[:3])
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="edge_run.py", description=about, formatter_class=raw)
    parser.add_argument("inputs", nargs="*", metavar="FILE", help="photo, input.npy, or name=input.npy for each input")
    parser.add_argument("--bundle", metavar="DIR", help="default: the one *.edge folder beside this file")
    parser.add_argument("--verify", action="store_true", help="check every hash and stop")
    parser.add_argument("--threads", type=positive, help="default: what the bundle says, at most the cores")
    parser.add_argument("--quick", action="store_true", help="10 samples instead of 50 and one second")
    parser.add_argument("--out", metavar="DIR", help="also write every output as .npy")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.add_argument("--may-replace", metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def main(argv=None):
    """Runs the command; returns the exit code."""
    options = parse(argv)
    if options.may_replace:
        problem = replace_problem(options.may_replace)
        sys.stderr.write(f"edge_run: {problem}\n" if problem else "")
        return FOREIGN if problem else 0
    stream = results_stream()
    try:
        folder = find_bundle(options.bundle)
        told = verify(folder) if options.verify else run_bundle(folder, options)
    except Failure as error:
        sys.stderr.write(f"edge_run: {error}\n")
        return error.code
    except (KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"edge_run: {MANIFEST} does not fit schema {MAJOR}.x: {error!r}; deploy the bundle again\n")
        return DAMAGED
    if options.json:
        stream.write(json.dumps(told, indent=2, sort_keys=True) + "\n")
    elif options.verify:
        count, sha256 = told["files"], told["manifest_sha256"]
        stream.write(f"{told['bundle']}: intact, {count} core files, manifest sha256 {sha256}\n")
    else:
        print_plain(told, stream)
    stream.flush()
    return 0


def results_stream():
    """Standard output for the results alone: engines print to descriptor 1, which goes to stderr from here on."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    return stream


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
