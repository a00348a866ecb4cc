"""Network egress in the virtual machine: a plan moves what a service sends, and nothing of it is left."""

import json
import socket
import threading
import time

from bed import Unexpected, expect, say, wait_for

MBIT = 1_000_000
TARGET = 8 * MBIT
OVER_S = 20
WITHIN = 0.15       # of the target
SLOWED = 0.8        # the other service keeps this part of its pace at least: the emulated CPUs are shared by all

# Sends for ever, as fast as it may on a part of an emulated CPU; the shell's own TCP, so that the guest needs no more.
SENDER = """
[Service]
CPUQuota=15%%
ExecStart=/bin/bash -c 'while :; do cat /dev/zero >/dev/tcp/10.0.2.100/%d; sleep 1; done'
"""
# Sends at a pace of its own, well below what the machine can and well above the target.
PACED = """
[Service]
ExecStart=/bin/bash -c 'while :; do while head -c 1M /dev/zero; do sleep .25; done >/dev/tcp/10.0.2.100/%d; sleep 1; done'
"""


class Sink:
    """Counts what comes on a port of this machine."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.count = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.drain, args=(connection,), daemon=True).start()

    def drain(self, connection):
        with connection:
            while chunk := connection.recv(1 << 16):
                self.count += len(chunk)


def rates(sinks, seconds):
    """What each sink got per second meanwhile, bits."""
    start, before = time.monotonic(), [sink.count for sink in sinks]
    time.sleep(seconds)
    passed = time.monotonic() - start
    return [round((sink.count - was) * 8 / passed) for sink, was in zip(sinks, before)]


def prepare(files, sinks):
    """Two services: one that a plan moves, and another on the same interface."""
    for name, service, sink in zip(("sender", "other"), (SENDER, PACED), sinks):
        (files / f"{name}.service").write_text(service % sink.port)


def traces(boot):
    """What is there of egress: our table, root disciplines with a handle, what the agent's hand does."""
    return boot.sh("nft list tables | grep quotary || true; tc qdisc show dev eth0 | grep -v ' 0: ' || true; "
                   "systemctl list-units --no-legend 'quotary-agent-egress@*' | wc -l").split()


def rate_of(boot):
    """The class's rate as tc shows it; None where there is none."""
    words = boot.try_sh("tc class show dev eth0 | grep 'htb 5154:10 '")[1].split()
    return words[words.index("rate") + 1] if "rate" in words else None


def sent_by_class(boot):
    """Bytes, headers included, by tc."""
    words = boot.sh("tc -s class show dev eth0 | grep -A1 'htb 5154:10 '").split()
    return int(words[words.index("Sent") + 1])


def drafted(verifier, *more):
    return json.loads(verifier.ask("--json", "plan", "draft", "--unit", "sender.service", "--egress", "8M", *more))


def at_target(boot, patience_s):
    wait_for("the class to be at the target", patience_s, lambda: rate_of(boot) == "8Mbit", [("the guest", boot.process)])


def gone(boot, patience_s, what):
    def look():
        nonlocal seen
        seen = traces(boot)
        return seen == ["0"]

    seen = None
    try:
        wait_for(what, patience_s, look, [("the guest", boot.process)])
    except Unexpected as why:
        raise Unexpected(f"{why}; left: {seen}") from why
    say(f"ok: {what}")


def without(boot):
    """Before an administrator turns it on it is unsupported, and says how."""
    shown = json.loads(boot.sh("curl -s --unix-socket /run/quotary/admin.sock http://x/v1/agent 2>/dev/null || true") or "{}")
    said = boot.sh("journalctl -o cat -u quotary-agent | grep 'a control is not there' || true")
    expect("without its socket the control is unsupported, and the agent says what it needs",
           "network-egress" in said and "quotary-agent-egress.socket" in said, said or shown)


def turn_on(boot):
    boot.sh("install -m 644 $VM/sender.service $VM/other.service /etc/systemd/system/; systemctl daemon-reload\n"
            "systemctl enable --quiet --now quotary-agent-egress.socket; systemctl restart quotary-agent; systemctl start sender other")


def egress(verifier, boot, sinks, lease_s, figures):
    """The whole of it; the control is on and both services send."""
    sender, other = sinks
    before = rates(sinks, 8)
    figures["egress_before_bits"], figures["other_before_bits"] = before
    expect("both send more than the target before any plan", before[0] > 2 * TARGET and before[1] > 1.2 * TARGET, before)
    expect("and nothing of ours is there", traces(boot) == ["0"], traces(boot))
    plan = drafted(verifier, "--over", f"{OVER_S}s")
    first = wait_for("a class of ours", 30, lambda: rate_of(boot), [("the guest", boot.process)])
    say(f"the first limit: {first}")
    time.sleep(max(0, plan["effective_at_ms"] / 1000 - time.time()))
    start = time.monotonic()
    at_target(boot, 150)
    figures["egress_late_s"] = round(time.monotonic() - start, 1)
    time.sleep(2)
    sent, start = sent_by_class(boot), time.monotonic()
    during = rates(sinks, 15)
    figures["egress_during_by_tc_bits"] = round((sent_by_class(boot) - sent) * 8 / (time.monotonic() - start))
    # The emulated CPUs are shared, by other machines too: of the other service's pace the best of three looks counts.
    others = [during[1]]
    while max(others) < SLOWED * before[1] and len(others) < 3:
        others.append(rates(sinks, 15)[1])
    figures["egress_during_bits"], figures["other_during_bits"] = during[0], max(others)
    off = abs(during[0] / TARGET - 1)
    expect(f"what is sent follows the plan within {WITHIN:.0%}: {during[0] / MBIT:.2f} Mbit/s", off <= WITHIN, figures)
    expect("the other service is not slowed", max(others) >= SLOWED * before[1], figures)
    restarted(boot, sinks, figures)
    flushed(boot)
    verifier.ask("plan", "cancel", plan["plan"])
    gone(boot, 30, "after a cancel nothing is left in nft and tc, and the hand has gone")
    after = rates(sinks, 8)
    figures["egress_after_bits"], figures["other_after_bits"] = after
    expect("and the service sends as before", after[0] > 2 * TARGET, after)
    agent_dead(verifier, boot, lease_s, figures)


def restarted(boot, sinks, figures):
    """A restart of the unit makes another cgroup: the rule is loaded anew."""
    before = boot.sh("stat -c %i /sys/fs/cgroup/system.slice/sender.service")
    boot.sh("systemctl restart sender")
    after = boot.sh("stat -c %i /sys/fs/cgroup/system.slice/sender.service")
    expect("the restarted unit has another cgroup", before != after, before)
    time.sleep(4)
    during = rates(sinks, 8)
    figures["egress_after_restart_bits"] = during[0]
    expect("a restart of the unit changes nothing", abs(during[0] / TARGET - 1) <= WITHIN, during)


def flushed(boot):
    """Somebody flushes all rules: left to them, and told; taken up again when the wait is over."""
    boot.sh("nft flush ruleset")
    said = lambda: "NetworkEgress" in boot.try_sh("journalctl -o cat -u quotary-agent | grep contested")[1]
    wait_for("the agent to say that its control is contested", 20, said)
    say("ok: rules that somebody flushed are not fought for")
    back = lambda: "quotary" in boot.try_sh("nft list tables")[1]
    wait_for("the plan to be taken up again", 90, back)
    at_target(boot, 120)
    say("ok: a minute later the plan goes on")


def agent_dead(verifier, boot, lease_s, figures):
    """The agent dies for good: systemd's own timer puts it back at the end of the lease."""
    plan = drafted(verifier, "--over", "5s")
    at_target(boot, 120)
    boot.sh("mkdir -p /run/systemd/system/quotary-agent.service.d; printf '[Service]\nRestart=no\n' "
            ">/run/systemd/system/quotary-agent.service.d/test.conf; systemctl daemon-reload; systemctl kill -s KILL quotary-agent")
    start = time.monotonic()
    gone(boot, lease_s + 30, "with the agent dead, its timer puts everything back")
    figures["egress_agent_dead_restored_after_s"] = round(time.monotonic() - start, 1)
    verifier.ask("plan", "cancel", plan["plan"])
    boot.sh("rm -r /run/systemd/system/quotary-agent.service.d; systemctl daemon-reload; systemctl reset-failed quotary-agent; "
            "systemctl start quotary-agent")
