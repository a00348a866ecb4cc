"""What runs under a grant on a host whose tree systemd owns: a transient scope, its values, and how they go."""

import json
import time

from bed import Unexpected, expect, say, wait_for

SLICE = "/sys/fs/cgroup/quotary.slice"
MIB = 1 << 20
WANTED = {"cpu.weight": "30", "cpu.max": "30000 100000", "memory.high": str(64 * MIB)}
NOTHING = {"cpu.weight": "100", "cpu.max": "max 100000", "memory.high": "max"}
PROPERTIES = {"CPUWeight": "30", "CPUQuotaPerSecUSec": "300ms", "MemoryHigh": str(64 * MIB)}
RUN = "quotary run --cpu 300m --memory 64M --if-unavailable fail --"


def run(boot, name):
    """Starts a command under a grant of its own; its scope, and its process."""
    before = set(scopes(boot))
    boot.sh(f"setsid {RUN} sleep 9{name} >$OUT/run-{name}.log 2>&1 </dev/null & sleep 0.1")
    pid = wait_for("the command to run", 60, lambda: boot.try_sh(f"pgrep -xf 'sleep 9{name}'")[1].strip() or None)
    new = wait_for("its scope", 20, lambda: set(scopes(boot)) - before)
    expect("one command has one scope", len(new) == 1, sorted(new))
    return new.pop(), pid


def scopes(boot):
    """The scopes of grants that are there."""
    return boot.try_sh(f"cd {SLICE} 2>/dev/null && ls -d quotary-*.scope")[1].split()


def values(boot, scope):
    """What the kernel shows."""
    shown = boot.sh(f"cd {SLICE}/{scope} && head -n 1 {' '.join(NOTHING)} | cat")
    parts = [part.strip().split(" <==\n") for part in shown.split("==> ")[1:]]
    return dict(parts)


def until(boot, scope, wanted, patience_s):
    """How long, s, until the kernel shows it."""
    start, seen = time.monotonic(), {}

    def look():
        seen.update(values(boot, scope))
        return seen == wanted

    try:
        wait_for(f"{wanted} in {scope}", patience_s, look, [("the guest", boot.process)])
    except Unexpected as why:
        raise Unexpected(f"{why}; seen: {seen}") from why
    return round(time.monotonic() - start, 1)


def shows(boot, scope):
    """What systemd says of a scope."""
    names = ",".join([*PROPERTIES, "Slice", "Description", "ControlGroup"])
    return dict(line.split("=", 1) for line in boot.sh(f"systemctl show {scope} -p {names}").splitlines())


def drop_ins(boot):
    return boot.sh("find /run/systemd -path '*quotary-*.scope.d/*'").split()


def is_lifted(boot, scope, pid, what):
    """Nothing limits it any more, it goes on, and a reload brings nothing back."""
    expect(f"{what}: the command goes on where it is", pid in boot.sh(f"cat {SLICE}/{scope}/cgroup.procs").split(), pid)
    expect(f"{what}: no drop-in is left", drop_ins(boot) == [], drop_ins(boot))
    boot.sh("systemctl daemon-reload")
    expect(f"{what}: nor does a reload bring one back", values(boot, scope) == NOTHING, values(boot, scope))


def scopes_hold(verifier, boot, figures):
    """A command has its scope and its values, which faults do not move."""
    scope, pid = run(boot, "001")
    figures["scope_values_after_s"] = until(boot, scope, WANTED, 10)
    attested(verifier, f"/quotary.slice/{scope}", ["memory.high", "systemd", "yes"])
    said = shows(boot, scope)
    expect("systemd says the same", all(said[name] == value for name, value in PROPERTIES.items()), said)
    expect("it stands in the slice of grants, and says whose it is", said["Slice"] == "quotary.slice" and "Quotary grant" in said["Description"], said)
    inside = boot.sh(f"cat {SLICE}/{scope}/cgroup.procs").split()
    expect("the command alone is in it", inside == [pid], inside)
    expect("there is no group of our own", boot.try_sh("ls -d /sys/fs/cgroup/quotary")[0] != 0, "")
    boot.sh("systemctl daemon-reload")
    expect("a reload changes nothing", values(boot, scope) == WANTED, values(boot, scope))
    boot.sh(f"systemctl set-property --runtime {scope} TasksMax=500")
    expect("nor does another property", values(boot, scope) == WANTED, values(boot, scope))
    grant = boot.sh(f"tr '\\0' '\\n' </proc/{pid}/environ | sed -n s/^QUOTARY_GRANT=//p").strip()
    enter = f"quotary __enter --socket /run/quotary/agent.sock --grant {grant} --if-unavailable fail -- sleep 9002"
    boot.sh(f"setsid {enter} >$OUT/enter.log 2>&1 </dev/null & sleep 0.1")
    second = wait_for("a second process", 20, lambda: boot.try_sh("pgrep -xf 'sleep 9002'")[1].strip() or None)
    inside = boot.sh(f"cat {SLICE}/{scope}/cgroup.procs").split()
    expect("a second process of the grant is in the same scope", sorted(inside) == sorted([pid, second]), inside)
    attested(verifier, f"/quotary.slice/{scope}", ["memory_bytes"])
    shown = json.loads(boot.sh("quotary --json agent status"))["grants"]
    expect("the agent says who holds it", [one["backend"] for one in shown] == ["systemd"], shown)
    boot.sh("systemctl kill -s KILL quotary-agent")
    expect("a SIGKILL of the agent changes nothing", values(boot, scope) == WANTED, values(boot, scope))
    active = lambda: boot.try_sh("systemctl is-active quotary-agent")[1].strip() == "active"
    wait_for("the agent to run again", 60, active)
    expect("nor does its next start", values(boot, scope) == WANTED, values(boot, scope))
    return scope, pid


def attested(verifier, cgroup, what):
    """Waits for evidence in which a line of the cgroup has all these words."""

    def look():
        shown = verifier.ask("evidence", "show", verifier.host()["host"])
        return [line for line in shown.splitlines() if cgroup in line and all(word in line for word in what)]

    wait_for(f"{cgroup} with {what} to be attested", 40, look)
    say(f"ok: {cgroup} with {' and '.join(what)} is attested")


def scopes_end(verifier, boot, figures, scope, pid):
    """The kill switch, a stop of the agent and the end of the process: what is left of a scope."""
    boot.sh("touch /etc/quotary/stop-enforcing")
    figures["scope_switch_s"] = until(boot, scope, NOTHING, 20)
    is_lifted(boot, scope, pid, "the kill switch")
    boot.sh("rm /etc/quotary/stop-enforcing")
    other, other_pid = run(boot, "003")
    until(boot, other, WANTED, 10)
    start = time.monotonic()
    boot.sh("systemctl stop quotary-agent")
    figures["scope_stop_s"] = round(time.monotonic() - start, 1)
    expect("a stop of the agent lifts it", values(boot, other) == NOTHING, values(boot, other))
    is_lifted(boot, other, other_pid, "a stop of the agent")
    boot.sh("pkill -xf 'sleep 900[0-9]'; true")
    wait_for("the scopes to go with their processes", 20, lambda: scopes(boot) == [])
    wait_for("and the slice with them", 20, lambda: boot.try_sh(f"ls -d {SLICE}")[0] != 0)
    left = boot.sh("find /run/systemd/transient /run/systemd/system.control -name '*quotary-*scope*' 2>/dev/null; true").split()
    expect("nothing of a scope is left", left == [], left)
    boot.sh("systemctl start quotary-agent")


def agent_gone(boot, figures, lease_s):
    """The agent dies and is not started again: systemd itself lifts what it left, at the end of the lease."""
    scope, pid = run(boot, "004")
    until(boot, scope, WANTED, 10)
    boot.sh("mkdir -p /run/systemd/system/quotary-agent.service.d; printf '[Service]\\nRestart=no\\n' "
            ">/run/systemd/system/quotary-agent.service.d/test.conf; systemctl daemon-reload; systemctl kill -s KILL quotary-agent")
    figures["scope_agent_gone_s"] = until(boot, scope, NOTHING, lease_s + 40)
    is_lifted(boot, scope, pid, "the end of the lease without an agent")
    boot.sh("rm -r /run/systemd/system/quotary-agent.service.d; systemctl daemon-reload; systemctl reset-failed quotary-agent; systemctl start quotary-agent")


def steps(verifier, boot, figures, lease_s):
    """All of it, on a host that is trusted and enforces."""
    scope, pid = scopes_hold(verifier, boot, figures)
    scopes_end(verifier, boot, figures, scope, pid)
    agent_gone(boot, figures, lease_s)
