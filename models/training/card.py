"""Writes MODEL_CARD.md from the manifest, so that its figures are the manifest's."""

_METHODS = (("model", "model"), ("ewma", "EWMA"), ("last_value", "last value"))
_COLUMNS = (
    ("wql", "WQL"),
    ("wql_ratio_to_ewma", "WQL / EWMA"),
    ("pinball", "pinball"),
    ("coverage_0.9", "cov .90"),
    ("coverage_0.95", "cov .95"),
    ("coverage_0.99", "cov .99"),
    ("peak_pinball", "peak pinball"),
    ("peak_coverage_0.95", "peak cov .95"),
    ("peak_coverage_0.99", "peak cov .99"),
)


def _table(parts: dict[str, dict]) -> str:
    lines = [
        "| windows | method | " + " | ".join(title for _, title in _COLUMNS) + " |",
        "|" + " --- |" * (len(_COLUMNS) + 2),
    ]
    for name, part in parts.items():
        for key, title in _METHODS:
            row = part["methods"][key]
            figures = " | ".join(f"{row[column]:.3f}" for column, _ in _COLUMNS)
            lines.append(f"| {name} ({part['series']} series, {part['windows']} windows) | {title} | {figures} |")
    return "\n".join(lines)


def model_card(manifest: dict) -> str:
    """The card as Markdown."""
    metrics = manifest["metrics"]
    parts = {"all": metrics["all"]} | metrics["by_resource"] | metrics["by_group"]
    parts["all, model sees only 12 steps"] = metrics["model_sees_12_steps"]
    training = manifest["training"]
    data = "\n".join(f"- `{name}` sha256 `{digest}`" for name, digest in manifest["training_data"].items())
    licences = "\n".join(f"- {line}" for line in manifest["licences"])
    libraries = ", ".join(f"{name} {version}" for name, version in manifest["libraries"].items())
    return f"""# Model card: {manifest["name"]}

Written by `train.py` together with the manifest; do not edit.

## What it is
Forecasts the demand for one resource of one host, application, tenant or pool: {manifest["horizon_steps"]} steps ahead as quantiles
{manifest["quantile_levels"]}, and the highest demand over the next {manifest["peak_steps"]} steps as quantiles {manifest["peak_levels"]}.
It sees up to {manifest["history_steps"]} steps (the newest 96 one by one, those before in blocks, and around the same time of the day before; gaps allowed, one
point suffices) and the kind of resource, not the unit and, but for the day before, not the length of a step.
A residual multilayer perceptron, {training["parameters"]:,} parameters, {training["file_bytes"]:,} bytes, opset {manifest["opset"]}, file sha256
`{manifest["sha256"]}`. Quantiles cannot cross: they are cumulative sums of softplus. What goes in is mapped per series by normaliser {manifest["normaliser"]} (`training/normaliser.py`, `src/normaliser.rs`).

## Data
Trained on the first 75 % of each fleet and AWS series, on the training VMs, and on {training["synthetic_series"]:,} synthetic series (40 % of windows) of our own
seeded generator (`training/synthetic.py`); seed {manifest["seed"]}, {training["windows"]:,} windows, {training["steps"]:,} steps of {training["batch"]}. Every fifth VM by hash and the last 25 % of the other series were never read in training.

{data}

Licences and attribution:

{licences}

## Figures
On the held-out parts, forecasts of 12 steps at every 12th step; same windows for all methods. WQL is over .1 to .9; WQL, pinball and peak pinball are relative to mean demand and averaged over
series; "WQL / EWMA" is the geometric mean over series of the ratio. EWMA (weight 0.3) and last value carry empirical residual quantiles from up to 288 steps of history.

{_table(parts)}

## Limits
- One seed. Of four shapes the smallest was taken, for its speed; their losses on these very windows differed by 1 %. It must earn its place against the statistical rung on each deployment's own history.
- It sees one day before, not a week.
- Real data are CPU and memory above all; for disk there are {metrics["by_resource"]["disk"]["series"]}, for network {metrics["by_resource"]["network"]["series"]} held-out series, all from one cloud. The rest is synthetic. Traces are at 300 s; other step lengths rest on coarsened and synthetic series.
- The held-out VMs come from the same cluster and day as the training VMs, the fleet and AWS series continue the training series: figures for a foreign fleet will be worse.
- Quantiles are marginal; the figures above are before the calibration per series that the verifier adds (`decide/src/forecast/calibration.rs`).
- Usage at a limit is a lower bound of demand. The model does not know of limits: leave such steps out as gaps.
- A history of zeros forecasts zero.

## Reproduce
`sh models/train.sh` in a clone. Same machine type and libraries ({libraries}) give the same file; another CPU may differ in the last bits of weights, and so in the digest.
"""
