"""Storage in the virtual machine: a plan moves the soft limit of a project, and the limit from before comes back."""

import json
import time

from bed import expect, say, wait_for

KIB = 1024
TARGET_KIB = 96 * KIB
BEFORE = (300 * KIB, 400 * KIB)     # an administrator's own soft and hard limits
LINES = """
[[shape.storage]]
unit = "writer.service"
directory = "/srv/writer"
project_id = 4242
"""
# Keeps 150 MB, and says after each write whether it was let.
WRITER = """
[Service]
ExecStart=/bin/sh -c 'head -c 150M /dev/zero >/srv/writer/kept; while :; do if head -c 1M /dev/zero >/srv/writer/more; then echo written; else echo refused; fi; sync -f /srv; sleep 1; done'
"""


def prepare(files):
    (files / "writer.service").write_text(WRITER)


def make(boot):
    """A file system with project quotas, on a loop device; the directory has its project by an administrator."""
    boot.sh(f"""
set -e
truncate -s 512M /var/tmp/quota.img
mkfs.ext4 -q -O quota,project -E quotatype=prjquota /var/tmp/quota.img
modprobe loop; modprobe quota_v2
mount -o loop,prjquota /var/tmp/quota.img /srv
mkdir /srv/writer; chattr -p 4242 +P /srv/writer
setquota -P 4242 {BEFORE[0]} {BEFORE[1]} 0 0 /srv
install -m 644 $VM/writer.service /etc/systemd/system/; systemctl daemon-reload; systemctl start writer
""")


def turn_on(boot):
    boot.sh("systemctl enable --quiet --now quotary-agent-storage.socket")


def limits(boot):
    """Used, soft and hard, KiB, as repquota says."""
    line = boot.sh("repquota -P -n -O csv /srv | grep '^#4242,'").split(",")
    return int(line[3]), int(line[4]), int(line[5])


def storage(verifier, boot, figures):
    used, soft, hard = limits(boot)
    expect("the administrator's limits hold before any plan", (soft, hard) == BEFORE and used > 140 * KIB, (used, soft, hard))
    draft = ("--json", "plan", "draft", "--unit", "writer.service", "--storage", "96M", "--over", "15s")
    refused = json.loads(verifier.ask(*draft))
    said = lambda: "an administrator has set storage of writer.service" in boot.try_sh("journalctl -o cat -u quotary-agent")[1]
    wait_for("the plan to be refused, since an administrator's soft limit stands there", 40, said, [("the guest", boot.process)])
    expect("and that limit is untouched", limits(boot)[1:] == BEFORE, limits(boot))
    verifier.ask("plan", "cancel", refused["plan"])
    drafted = json.loads(verifier.ask(*draft, "--override"))
    start = time.monotonic()
    wait_for("the soft limit to be at the target", 150, lambda: limits(boot)[1] == TARGET_KIB, [("the guest", boot.process)])
    figures["storage_reached_after_s"] = round(time.monotonic() - start, 1)
    used, soft, hard = limits(boot)
    expect("the hard limit is as it was", hard == BEFORE[1], hard)
    said = boot.sh("repquota -P -n -O csv /srv | grep '^#4242,'; journalctl -o cat -u writer -n 2")
    expect("the writer is above its soft limit, its grace time runs, and it still writes", ",soft," in said and "written" in said, said)
    figures["storage_report"] = said.splitlines()[0]
    shown = lambda: [c.get("last_write", {}).get("actual") for c in json.loads(verifier.ask("--json", "plan", "show", drafted["plan"]))["controls"]]
    wait_for("the last write to be attested", 20, lambda: shown() == [str(TARGET_KIB * KIB)])
    say("ok: the write, read back from the file system, is attested")
    verifier.ask("plan", "cancel", drafted["plan"])
    wait_for("the limits from before", 30, lambda: limits(boot)[1:] == BEFORE, [("the guest", boot.process)])
    say("ok: after a cancel the limits are what they were")
    boot.sh("systemctl stop writer")
