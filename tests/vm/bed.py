"""What the scenarios of the virtual machine share: the verifier here, the machine, its boots, and waiting with an end."""

import base64
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
MACHINE_S = 300     # making the machine, building the guest included
TRUST_S = 120       # from power-on until the host is trusted, under emulation
BOOT_S = 180        # one boot, power-on to power-off, unless a scenario says otherwise
PROGRAMS = ["quotary", "quotary-agent", "quotary-verifier"]


class Unexpected(Exception):
    """Something is not as it must be."""


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


START = time.monotonic()


def expect(what, holds, seen):
    """An assertion that shows what it saw."""
    if not holds:
        raise Unexpected(f"not so: {what}; seen: {json.dumps(seen, indent=1) if isinstance(seen, (dict, list)) else seen}")
    say(f"ok: {what}")


def wait_for(what, patience_s, look, watched=()):
    """Asks `look` until it says something; what it said. None of the watched processes may end meanwhile."""
    end = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        for name, process in watched:
            if process.poll() is not None:
                raise Unexpected(f"{name} ended ({process.returncode}) while waiting for {what}")
        if time.monotonic() > end:
            raise Unexpected(f"waited {patience_s} s for {what}")
        time.sleep(0.5)


class Verifier:
    """The verifier on this machine, and the operator's command."""

    def __init__(self, directory, programs, template):
        """`template`: its configuration, with {dir}, {port}, and what `configure` fills in."""
        self.directory, self.programs, self.process = directory, programs, None
        self.template = template
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = directory / "verifier.toml"
        self.credentials = directory / "credentials.toml"

    def configure(self, **parts):
        """Writes the configuration."""
        self.config.write_text(self.template.format(dir=self.directory, port=self.port, **parts))

    def start(self):
        """Makes the deployment, starts it, and logs the operator in."""
        verifier = self.programs / "quotary-verifier"
        init = [verifier, "init", "--config", self.config, "--offline-dir", self.directory / "offline", "--tls-name", "127.0.0.1"]
        subprocess.run(init, check=True, timeout=30, stdout=subprocess.DEVNULL)
        self.launch()
        # The guest knows this machine as vmhost; here it is 127.0.0.1.
        operator = tomllib.loads((self.directory / "verifier/operator.toml").read_text())
        where = ["--verifier", f"https://127.0.0.1:{self.port}", "--ca-pin", operator["ca_spki"], "--root-key", operator["root_key"]]
        look = lambda: self.run("login", *where, input=operator["token"]).returncode == 0
        wait_for("the verifier to take the operator's token", 30, look, [("the verifier", self.process)])

    def launch(self):
        with open(self.directory / "verifier.log", "ab") as log:
            self.process = start([self.programs / "quotary-verifier", "run", "--config", self.config], stdout=log, stderr=log)

    def restart(self):
        """Ends it and starts it with the configuration as it stands now."""
        self.stop()
        self.launch()
        look = lambda: self.run("status").returncode == 0
        wait_for("the verifier to answer again", 30, look, [("the verifier", self.process)])

    def run(self, *arguments, **options):
        """The operator's `quotary`, whatever comes of it."""
        environment = os.environ | {"QUOTARY_CREDENTIALS": str(self.credentials)}
        command = [self.programs / "quotary", *arguments]
        return subprocess.run(command, env=environment, timeout=30, capture_output=True, text=True, **options)

    def ask(self, *arguments):
        """What `quotary` printed; it must succeed."""
        done = self.run(*arguments)
        if done.returncode != 0:
            raise Unexpected(f"quotary {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def host(self):
        """The one host, or None before it is enrolled."""
        hosts = json.loads(self.ask("--json", "host", "list"))
        return hosts[0] if hosts else None

    def explain(self):
        """How the host stood in each zone by its last evidence."""
        return json.loads(self.ask("--json", "explain", self.host()["host"]))

    def last_change(self):
        """The newest change of a verdict in the audit log: from which zone, to which, and why."""
        leaves = json.loads(self.ask("--json", "audit", "list", "--limit", "100"))
        changes = [leaf["decision"] for leaf in leaves if leaf["kind"] == "verdict-changed"]
        return changes[-1] if changes else None

    def stop(self):
        if self.process:
            end(self.process, signal.SIGTERM)


class Boot:
    """One boot of the machine, from power-on to power-off."""

    def __init__(self, directory, name, port, append="", seconds=BOOT_S, **options):
        self.name, self.out, self.seconds = name, directory / name, seconds
        fifo = directory / f"{name}.commands"
        os.mkfifo(fifo)
        environment = os.environ | {
            "VM_APPEND": append, "VM_GUEST_PORTS": str(port), "VM_COMMANDS": str(fifo), "VM_TIMEOUT": str(seconds),
        }
        say(f"power on: {name}" + (f", with {append}" if append else ""))
        arguments = [HERE / "run-guest", directory / "machine", directory / "files", self.out]
        self.process = start(arguments, env=environment, **options)
        # Both ways, so that opening it does not wait for the guest.
        self.commands = os.open(fifo, os.O_RDWR)

    def command(self, text):
        os.write(self.commands, f"{text}\n".encode())

    def power_off(self):
        """Ends the boot in order, which puts every limit back."""
        self.command("end")
        code = self.process.wait(timeout=self.seconds)
        expect(f"the guest ended in order: {self.name}", code == 0, code)

    def __enter__(self):
        return self

    def __exit__(self, why, *_):
        if why and self.process.poll() is None:      # the guest's own log comes back only when it ends in order
            self.command("end")
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                pass
        end(self.process, signal.SIGTERM)
        os.close(self.commands)
        log = self.out / "agent.log"
        if why and log.exists():
            print("\n".join(["the agent's log ends so:", *log.read_text().splitlines()[-20:]]), flush=True)


class Shell(Boot):
    """A boot whose guest runs what it is told (guest-shell)."""

    def __init__(self, *arguments, **options):
        self.replies, self.asked = queue.Queue(), 0
        super().__init__(*arguments, **options, stdout=subprocess.PIPE)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("[reply "):
                words = text.rstrip("]").split(" ")
                output = base64.b64decode(words[3] if len(words) > 3 else "").decode(errors="replace")
                self.replies.put((int(words[1]), int(words[2]), output))
            else:
                print(text, flush=True)

    def try_sh(self, command, patience_s=100):
        """Exit code and output of a command in the guest."""
        self.asked += 1
        self.command(f"{self.asked} {base64.b64encode(command.encode()).decode()}")
        end = time.monotonic() + patience_s
        while True:
            try:
                number, code, output = self.replies.get(timeout=1)
            except queue.Empty:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Unexpected(f"the guest does not answer: {command}") from None
                continue
            if number == self.asked:
                return code, output

    def sh(self, command, patience_s=100):
        """What a command in the guest printed; it must succeed."""
        code, output = self.try_sh(command, patience_s)
        if code != 0:
            raise Unexpected(f"in the guest: {command}: exit code {code}: {output}")
        return output


def start(command, **options):
    """Starts a process that does not outlive this one."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], **options)


def end(process, with_signal):
    """Ends a process, by force when it does not want to."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_machine(directory):
    """The machine and the CA of its TPM."""
    # timeout(1) ends the children too.
    subprocess.run(["timeout", "-k", "10", str(MACHINE_S), HERE / "make-machine", directory / "machine"], check=True)
    say("the machine is made")


def wait_for_host(verifier, boot, what, holds, patience_s):
    """Waits until the host's view is as wanted; the view."""
    seen = None

    def look():
        nonlocal seen
        seen = verifier.host()
        return seen if seen and holds(seen) else None

    try:
        return wait_for(what, patience_s, look, [("the guest", boot.process), ("the verifier", verifier.process)])
    except Unexpected as why:
        raise Unexpected(f"{why}; the host: {json.dumps(seen, indent=1)}") from why


def booted_anew(before, more):
    """Whether evidence of a boot other than the one before was accepted."""
    return lambda host: host["boot_id"] not in (None, before) and host["trusted"] and host["accepted"] >= more


def run_scenario(name, seconds, scenario):
    """Runs `scenario(directory, programs)` within so many seconds, in a directory that is made anew. The exit code."""

    def out_of_time(*_):
        raise Unexpected(f"out of time: {seconds} s")

    def interrupted(*_):
        raise Unexpected("interrupted")

    try:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "target/vm" / name).resolve()
        programs = Path(os.environ.get("QUOTARY_BIN_DIR", TOP / "target/debug")).resolve()
        missing = [program for program in PROGRAMS if not (programs / program).is_file()]
        if missing:
            raise Unexpected(f"{programs} lacks {', '.join(missing)}: run `make build`, or set QUOTARY_BIN_DIR")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        signal.signal(signal.SIGALRM, out_of_time)
        signal.signal(signal.SIGTERM, interrupted)
        make_machine(directory)
        signal.alarm(seconds)
        try:
            scenario(directory, programs)
        finally:
            signal.alarm(0)      # what ends now has limits of its own
        shutil.rmtree(directory / "machine")      # 3 GiB, though sparse
        say("all as expected")
        return 0
    except (Unexpected, subprocess.SubprocessError, KeyboardInterrupt) as why:
        say(f"FAILED: {why}")
        return 1
