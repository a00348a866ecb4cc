"""What the scenarios of enforcement share: the configurations, the agent's package, and a guest that enforces."""

import os
import shutil
import subprocess
from pathlib import Path

from bed import HERE, TOP

LEASE_S = 45

VERIFIER_TOML = """
name = "verifier"
data_dir = "{dir}/verifier"
listen = "127.0.0.1:{port}"
url = "https://vmhost:{port}"
[timing]
window_ms = 2000
evidence_ms = 3000
nonce_ms = 9000
trust_ms = 12000
lease_ms = {lease_ms}
lease_margin_ms = 3000
[[ek_authority]]
file = "{dir}/machine/ca.pem"
tpm = "software"
[[zone]]
name = "joined"
pcrs = "sha256:16"
reference = {{ "sha256:16" = "{zero}" }}
[[tenant]]
name = "default"
[[application]]
name = "any"
tenant = "default"
"""

AGENT_TOML = """
mode = "enforce"
join_token_file = "/etc/quotary/join-token"
window_ms = 2000
evidence_ms = 3000
retry_max_ms = 2000
log = "info"
[shape]
memory_floor_bytes = 33554432
decay_ms = 10000
"""


def prepare(verifier, directory, files, packages=("quotary-agent",)):
    """Starts the verifier; makes the directory that the guest gets: packages, configuration, join token, and `files`, texts by
    their names."""
    verifier.configure(zero="00" * 32, lease_ms=LEASE_S * 1000)
    verifier.start()
    handed = directory / "files"
    handed.mkdir()
    given = os.environ.get("QUOTARY_DEB_DIR")
    debs = Path(given).resolve() if given else directory / "debs"
    if not given:
        quick = os.environ | {"PROFILE": "dev", "FORMATS": "deb", "PACKAGES": " ".join(packages), "VERSION": "0.1.0"}
        subprocess.run([TOP / "tools/build-packages", debs], check=True, timeout=600, env=quick)
    for package in packages:
        for deb in debs.glob(f"{package}_0.1.0_*.deb"):
            shutil.copy(deb, handed)
    for name, text in ({"agent.toml": AGENT_TOML} | files).items():
        (handed / name).write_text(text)
    shutil.copy(HERE / "guest-shell", handed / "test")
    shutil.copy(HERE / "snapshot", handed)
    verifier.ask("token", "join", "--zone", "joined", "--cpu", "2", "--memory", "2G", "--out", handed / "join-token")


def install(boot, watchdog_s=10):
    """A picture of the guest before (/root/before), then the packages; the watchdog is quicker than shipped (60 s)."""
    boot.sh(f"watchdog_s={watchdog_s}" + """
set -e
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick      # this disk is thrown away
$VM/snapshot take /root/before
mkdir -p /run/systemd/system/quotary-agent.service.d
printf '[Service]\nWatchdogSec=%s\n' $watchdog_s >/run/systemd/system/quotary-agent.service.d/test.conf
install -D -m 600 $VM/agent.toml /etc/quotary/agent.toml
install -D -m 600 $VM/join-token /etc/quotary/join-token
export DEBIAN_FRONTEND=noninteractive
dpkg --force-confold -i $VM/*.deb >$OUT/dpkg.log 2>&1 </dev/null || { cat $OUT/dpkg.log; exit 1; }
systemctl is-active quotary-agent || systemctl start quotary-agent
""")
