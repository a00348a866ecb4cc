"""The trace of a plan: how far it was ever tighter than the plan's line, and a picture of it."""

from bed import expect

MIB = 1 << 20


def draw(directory, out, drafted, figures):
    """The trace beside the plan's lines: overshoot, and a picture."""
    rows = []
    for line in (out / "trace.csv").read_text().splitlines():
        at_us, high, current, weight, some = line.split(",")
        rows.append((int(at_us) // 1000, high, int(current), int(weight), float(some or 0)))
    start, end = drafted["starts_at_ms"], drafted["effective_at_ms"]
    during = [row for row in rows if start <= row[0] <= end + 10_000]
    found = next((int(row[1]) for row in during if row[1] != "max"), None)
    expect("the trace has the plan's time", len(during) > 30 and found, len(during))
    line = lambda at, first, last: last if at >= end else first + (last - first) * (at - start) / (end - start)
    under = [line(at, found, 128 * MIB) / int(high) for at, high, *_ in during if high != "max"]
    light = [line(at, 100, 50) / weight for at, _, _, weight, _ in during]
    figures["overshoot_memory_percent"] = round((max(under) - 1) * 100, 2)
    figures["overshoot_cpu_percent"] = round((max(light) - 1) * 100, 2)
    expect("no value was tighter than its plan by more than 6 %", max(under + light) <= 1.06, figures)
    svg(directory / "trace.svg", during, start, end, found)


def svg(path, rows, start, end, found):
    """A picture of limit, use and weight beside their lines."""
    width, height, first, last = 900, 300, rows[0][0], rows[-1][0]
    x = lambda at: 60 + (width - 80) * (at - first) / max(1, last - first)
    top = max([row[2] for row in rows] + [found]) * 1.05
    y = lambda value, most: 20 + (height - 50) * (1 - value / most)
    points = lambda pairs: " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
    lines = [
        ("#888", "6 4", [(x(start), y(found, top)), (x(end), y(128 * MIB, top)), (x(last), y(128 * MIB, top))]),
        ("#c33", "", [(x(at), y(int(high), top)) for at, high, *_ in rows if high != "max"]),
        ("#36c", "", [(x(at), y(current, top)) for at, _, current, *_ in rows]),
        ("#3a3", "", [(x(at), y(weight, 110)) for at, _, _, weight, _ in rows]),
    ]
    drawn = "".join(f'<polyline fill="none" stroke="{c}" stroke-dasharray="{d}" points="{points(p)}"/>' for c, d, p in lines)
    words = [(70, 16, "#888", "plan"), (120, 16, "#c33", "memory.high"), (230, 16, "#36c", "memory.current"), (360, 16, "#3a3", "cpu.weight (of 110)")]
    text = "".join(f'<text x="{a}" y="{b}" fill="{c}" font-size="13" font-family="sans-serif">{t}</text>' for a, b, c, t in words)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="100%" height="100%" fill="white"/>{drawn}{text}</svg>\n')
