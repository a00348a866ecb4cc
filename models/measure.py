"""How long onnxruntime takes for the shipped model, on one thread: the yardstick of `quotary-bench --only prediction`.

    python measure.py SECONDS

Prints JSON: microseconds per series at batch 1 and 32, the network alone (no normaliser).
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent


def main() -> None:
    seconds = float(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(HERE / "demand.onnx", options, providers=["CPUExecutionProvider"])
    vectors = json.loads((HERE / "parity.json").read_text())
    rows = np.array([vector["features"] for vector in vectors], np.float32)
    found = {}
    for batch in (1, 32):
        features = np.resize(rows, (batch, rows.shape[1]))
        for _ in range(20):
            session.run(None, {"features": features})
        began, runs = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            session.run(None, {"features": features})
            runs += 1
        found[f"batch_{batch}_us"] = (time.perf_counter() - began) / runs / batch * 1e6
    print(json.dumps(found | {"version": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
