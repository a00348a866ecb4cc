"""What tools/run-mutants runs: every change of a list that `cargo mutants --list --json` gave, tried with few builds.

One copy of the workspace holds all changes at once, each behind a switch (`mutant::on(N)`) that the environment sets,
so that one build serves all of them. What has no such form (constants, what the compiler refuses beside the code it
replaces) is spliced into the copy as cargo-mutants would, one build each. The tree itself is never written to.
Arguments: the tree, where outcomes go, where to work, the list, and perhaps a file of names to try only.
"""

import collections
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading

import tree_sitter
import tree_sitter_rust

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
CRATES = {"common": "quotary_common", "verifier/decide": "quotary_decide"}
# The tests of a file's own room come first: they catch nearly everything, and the whole takes longer.
ROOMS = [
    ("common/src/tpm/", "common", ["tpm::"]),
    ("verifier/decide/src/attest/", "verifier/decide", ["attest::", "inspect::"]),
    ("verifier/decide/src/eventlog/", "verifier/decide", ["eventlog::"]),
    ("verifier/decide/src/ima/", "verifier/decide", ["ima::"]),
]
TIMEOUT_S = 30
MEMORY_BYTES_MAX = 4 << 30
SWITCH = """
/// Which change is on.
#[doc(hidden)]
pub mod mutant {
    static ON: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0));
    /// Whether this change is on.
    #[inline]
    pub fn on(number: u32) -> bool {
        *ON == number
    }
}
"""
ENVIRONMENT = {
    "TSS2_LOG": "all+NONE",
    "PROPTEST_CASES": "32",
    "PROPTEST_MAX_SHRINK_ITERS": "0",
    "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "true",
    "RUST_BACKTRACE": "0",
}


class Mutant:
    """One change: bytes `start..end` of a file become `replacement`."""

    def __init__(self, number, listed, source):
        self.number, self.name, self.file = number, listed["name"], listed["file"]
        self.genre, self.replacement = listed["genre"], listed["replacement"]
        span = listed["span"]
        self.start, self.end = (source.at(span[side]) for side in ("start", "end"))
        self.region = None

    def spliced(self, text, start=0, end=None):
        """`text[start..end]` with the change in it."""
        return text[start : self.start] + self.replacement.encode() + text[self.end : end]


class Source:
    """A file, its syntax tree, and its changes in switched form."""

    def __init__(self, root, path):
        self.path, self.text = path, (root / path).read_bytes()
        self.lines = [0] + [i + 1 for i, byte in enumerate(self.text) if byte == 10]
        self.tree = PARSER.parse(self.text)
        crate = path.split("/src/")[0]
        self.on = "crate::mutant::on" if crate == "common" else "quotary_common::mutant::on"
        self.mutants = []
        self.const = set()

    def at(self, place):
        """Byte offset of a line and column, both counted from one, columns in characters."""
        start = self.lines[place["line"] - 1]
        line = self.text[start:].split(b"\n", 1)[0].decode()
        return start + len(line[: place["column"] - 1].encode())

    def ancestors(self, mutant):
        node = self.tree.root_node.descendant_for_byte_range(mutant.start, max(mutant.start, mutant.end - 1))
        while node is not None:
            yield node
            node = node.parent

    def site(self, mutant):
        """The node that the change's switch stands at, or None when there can be none."""
        chain = list(self.ancestors(mutant))
        kinds = [node.type for node in chain]
        if "token_tree" in kinds:
            return None
        function = next((node for node in chain if node.type == "function_item"), None)
        if function is None or {"const_item", "static_item", "const_block"} & set(kinds[: chain.index(function)]):
            return None
        if function_name(function) in self.const and is_const(function):
            return None
        if mutant.genre == "FnValue":
            return function.child_by_field_name("body")
        if mutant.genre in ("MatchArm", "MatchArmGuard"):
            pattern = next((node for node in chain if node.type == "match_arm"), None)
            pattern = pattern and pattern.child_by_field_name("pattern")
            guard = pattern and pattern.child_by_field_name("condition")
            return None if pattern is None or (guard is not None and guard.type.startswith("let_")) else pattern
        wanted = {
            "UnaryOperator": ("unary_expression",),
            "StructField": ("struct_expression",),
            "BinaryOperator": ("binary_expression", "compound_assignment_expr"),
        }[mutant.genre]
        if mutant.genre == "BinaryOperator" and (len(chain) < 2 or chain[1].type not in wanted):
            return None
        site = next((node for node in chain if node.type in wanted), None)
        # Text is spliced as cargo-mutants does it: another operator may bind differently in the whole expression.
        while site is not None and site.type == "binary_expression" and site.parent.type == "binary_expression":
            site = site.parent
        return site

    def switched(self, active):
        """The file with these changes switched; sets each one's `region` in it. Returns bytes and those with no form."""
        wraps, inserts, formless = collections.defaultdict(list), [], []
        arms, opaque = collections.defaultdict(list), collections.defaultdict(list)
        for mutant in active:
            site = self.site(mutant)
            if site is None:
                formless.append(mutant)
            elif mutant.genre == "FnValue" and opaque_type(site.parent):
                opaque[(site.start_byte, site.end_byte)].append(mutant)
            elif mutant.genre == "FnValue":
                text = f" if {self.on}({mutant.number}) {{ return \1{mutant.number}\2{mutant.replacement}\3; }} "
                inserts.append((site.start_byte + 1, 0, site.start_byte + 1, text.encode()))
            elif mutant.genre in ("MatchArm", "MatchArmGuard"):
                arms[site.start_byte].append((site, mutant))
            else:
                wraps[(site.start_byte, site.end_byte)].append(mutant)
        for (start, end), mutants in wraps.items():
            head = b"".join(
                f"if {self.on}({m.number}) {{ \1{m.number}\2".encode() + m.spliced(self.text, start, end) + b"\3 } else "
                for m in mutants
            )
            inserts += [(start, -end, start, b"(" + head + b"{ "), (end, -start, end, b" })")]
        for (start, end), mutants in opaque.items():
            # Values of different types behind one `impl Trait`: boxed, so that the compiler sees one type.
            kind = opaque_type(self.site(mutants[0]).parent)
            head = "".join(
                f"if {self.on}({m.number}) {{ \1{m.number}\2Box::new({m.replacement})\3 }} else " for m in mutants
            )
            head = f" let boxed: Box<dyn {kind} + '_> = {head}{{ Box::new({{"
            inserts += [(start + 1, -end, start + 1, head.encode()), (end - 1, -start, end - 1, b"}) }; boxed ")]
        for of in arms.values():
            inserts += self.arm(of[0][0], [mutant for _, mutant in of])
        for function in functions(self.tree.root_node):
            if is_const(function) and function_name(function) not in self.const:
                token = const_token(function)
                inserts.append((token.start_byte, 0, token.end_byte, b""))
        out, last = b"", 0
        # What opens at one place opens outermost first; what closes there closes innermost first.
        for at, _, until, text in sorted(inserts, key=lambda i: (i[0], i[3][:1] == b"(", i[1])):
            out += self.text[last:at] + text
            last = until
        return self.marked(out + self.text[last:]), formless

    def arm(self, pattern, mutants):
        deleted = next((m.number for m in mutants if m.genre == "MatchArm"), None)
        always = next((m.number for m in mutants if m.replacement == "true"), None)
        never = next((m.number for m in mutants if m.replacement == "false"), None)

        def off(number):
            return f"!{self.on}({number}) && " if number is not None else ""

        guard = pattern.child_by_field_name("condition")
        if guard is None:
            return [(pattern.end_byte, 0, pattern.end_byte, f" if !{self.on}({deleted})".encode())]
        holds = f"{self.on}({always}) || " if always is not None else ""
        head = f"{off(deleted)}({holds}{off(never)}("
        return [
            (guard.start_byte, -guard.end_byte - 0.5, guard.start_byte, head.encode()),
            (guard.end_byte, -guard.start_byte + 0.5, guard.end_byte, b"))"),
        ]

    def marked(self, text):
        """Takes the marks out of the text and notes where they stood."""
        out, at, open_ = bytearray(), 0, []
        numbered = {mutant.number: mutant for mutant in self.mutants}
        for mark in re.finditer(rb"\x01(\d+)\x02|\x03", text):
            out += text[at : mark.start()]
            at = mark.end()
            if mark.group(1):
                open_.append((numbered[int(mark.group(1))], len(out)))
            else:
                mutant, start = open_.pop()
                mutant.region = (start, len(out))
        return bytes(out + text[at:])


def opaque_type(function):
    """The traits of a returned `impl Traits`, or nothing."""
    kind = function.child_by_field_name("return_type")
    text = kind.text.decode() if kind is not None else ""
    return text.removeprefix("impl ") if text.startswith("impl ") else None


def functions(node):
    if node.type == "function_item":
        yield node
    for child in node.children:
        yield from functions(child)


def function_name(function):
    return function.child_by_field_name("name").text.decode()


def const_token(function):
    modifiers = next((child for child in function.children if child.type == "function_modifiers"), None)
    return modifiers and next((child for child in modifiers.children if child.type == "const"), None)


def is_const(function):
    return const_token(function) is not None


def copy(root, to):
    """The tree as it stands, without lints (a change may leave something unused) and with tests made fast."""
    shutil.rmtree(to, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True
    )
    for path in filter(None, listed.stdout.decode().split("\0")):
        if (root / path).is_file():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, to / path)
    for manifest in to.rglob("Cargo.toml"):
        text = manifest.read_text().replace("[lints]\nworkspace = true\n", "")
        text = re.sub(r"(\[profile\.dev\]\n)debug = .*", r"\1debug = false\nopt-level = 1", text)
        manifest.write_text(text)


class Build:
    """One copy of the workspace, and the test programs it makes."""

    def __init__(self, root, work):
        # Not below the target directory: cargo would take files of another copy for these.
        self.tree, self.target, self.programs = work / "tree", work / "target", {}
        copy(root, self.tree)

    def make(self):
        """Builds the tests; returns the compiler's errors."""
        command = ["cargo", "test", "--offline", "--no-run", "--lib", "-p", "quotary-common", "-p", "quotary-decide"]
        done = subprocess.run(
            ["nice", "-n", "5", *command, "--message-format=json"],
            cwd=self.tree,
            env={**os.environ, **ENVIRONMENT, "CARGO_TARGET_DIR": str(self.target)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        errors, programs = [], {}
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message["reason"] == "compiler-message" and message["message"]["level"].startswith("error"):
                errors.append(message["message"])
            if message["reason"] == "compiler-artifact" and message.get("executable"):
                programs[message["target"]["name"]] = message["executable"]
        if done.returncode and not errors:
            sys.exit(done.stderr.decode())
        self.programs = {crate: programs.get(name) for crate, name in CRATES.items()}
        return errors

    def passes(self, crate, number, filters=()):
        """Runs a crate's tests: True when they pass, False when they do not, None when they do not end."""

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))

        run = subprocess.Popen(
            ["nice", "-n", "5", self.programs[crate], *filters],
            cwd=self.tree / crate,
            env={**os.environ, **ENVIRONMENT, "MUTANT": str(number), "CARGO_MANIFEST_DIR": str(self.tree / crate)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=limit,
        )
        try:
            return run.wait(TIMEOUT_S) == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return None

    def outcome(self, mutant, number):
        room = next((crate, filters) for prefix, crate, filters in ROOMS if mutant.file.startswith(prefix))
        # common knows nothing of decide, but its changes show there.
        whole = [(crate, []) for crate in list(CRATES)[list(CRATES).index(room[0]) :]]
        for crate, filters in [room, *whole]:
            passed = self.passes(crate, number, filters)
            if not passed:
                return "timeout" if passed is None else "caught"
        return "missed"


def blamed(errors, sources, active, tree):
    """The changes that these errors come from; those whose switch, not whose change, may be at fault come second."""
    unviable, doubtful = set(), set()
    for error in errors:
        if not error["spans"]:
            continue
        found = False
        for span in sorted(error["spans"], key=lambda span: not span["is_primary"]):
            inside = [
                mutant
                for mutant in active.get(span["file_name"], [])
                if mutant.region and mutant.region[0] <= span["byte_start"] and span["byte_end"] <= mutant.region[1]
            ]
            if inside:
                unviable.add(min(inside, key=lambda mutant: mutant.region[1] - mutant.region[0]))
                found = True
                break
        name = re.search(r"non-const (?:associated function|method|function) `(?:.*::)?(\w+)", error["message"])
        if not found and name:
            for source in sources.values():
                source.const.add(name.group(1))
            found = True
        if not found:
            for span in error["spans"]:
                lines = (tree / span["file_name"]).read_text().split("\n")
                text = "\n".join(lines[span["line_start"] - 1 : span["line_end"] + 40])
                near = {int(number) for number in re.findall(r"mutant::on\((\d+)\)", text)}
                doubtful |= {m for of in active.values() for m in of if m.number in near and m.genre.startswith("MatchArm")}
                found = found or bool(doubtful)
        if not found:
            sys.exit("an error that belongs to no change:\n" + error["rendered"])
    return unviable, doubtful


def switch_all(build, sources):
    """Builds with every change behind its switch: returns those in it, those for a build each, and the unviable ones."""
    tree = build.tree
    with open(tree / "common/src/lib.rs", "a") as door:
        door.write(SWITCH)
    active = {path: list(source.mutants) for path, source in sources.items()}
    single, unviable = [], []
    while True:
        for path, source in sources.items():
            text, formless = source.switched(active[path])
            single += formless
            active[path] = [mutant for mutant in active[path] if mutant not in formless]
            if (tree / path).read_bytes() != text:
                (tree / path).write_bytes(text)
        errors = build.make()
        if not errors:
            return [mutant for of in active.values() for mutant in of], single, unviable
        bad, doubtful = blamed(errors, sources, active, tree)
        print(f"the compiler refuses {len(bad)} changes, {len(doubtful)} forms", flush=True)
        # The value of a function is typed alike in both forms; of the rest a build of its own says.
        unviable += [mutant for mutant in bad if mutant.genre == "FnValue"]
        single += [mutant for mutant in bad if mutant.genre != "FnValue"] + list(doubtful - bad)
        active = {path: [mutant for mutant in of if mutant not in bad | doubtful] for path, of in active.items()}


def try_singly(build, mutants, sources, tell):
    """Each in a build of its own."""
    for path, source in sources.items():
        (build.tree / path).write_bytes(source.text)
    for mutant in sorted(mutants, key=lambda mutant: mutant.number):
        text = sources[mutant.file].text
        (build.tree / mutant.file).write_bytes(mutant.spliced(text))
        tell("unviable" if build.make() else build.outcome(mutant, 0), mutant)
        (build.tree / mutant.file).write_bytes(text)


def main():
    root, out, work, listed = (pathlib.Path(argument) for argument in sys.argv[1:5])
    only = set(pathlib.Path(sys.argv[5]).read_text().splitlines()) if len(sys.argv) > 5 else None
    sources = {}
    for number, entry in enumerate(json.loads(listed.read_text()), 1):
        source = sources.setdefault(entry["file"], Source(root, entry["file"]))
        if only is None or entry["name"] in only:
            source.mutants.append(Mutant(number, entry, source))
    outcomes = open(out / "outcomes.txt", "w")
    counts, lock = collections.Counter(), threading.Lock()

    def tell(outcome, mutant):
        with lock:
            counts[outcome] += 1
            outcomes.write(f"{outcome}\t{mutant.name}\n")
            outcomes.flush()
            if outcome == "missed":
                print(f"missed {mutant.name}", flush=True)

    build = Build(root, work)
    switched, single, unviable = switch_all(build, sources)
    print(f"{len(switched)} switched, {len(single)} for a build each, {len(unviable)} unviable", flush=True)
    for mutant in unviable:
        tell("unviable", mutant)
    for crate in CRATES:
        if not build.passes(crate, 0):
            sys.exit(f"the tests of {crate} fail with every change off")
    waiting = collections.deque(sorted(switched, key=lambda mutant: mutant.number))

    def work():
        while True:
            try:
                mutant = waiting.popleft()
            except IndexError:
                return
            tell(build.outcome(mutant, mutant.number), mutant)

    workers = [threading.Thread(target=work) for _ in range(int(os.environ.get("MUTANT_JOBS", "1")))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    try_singly(build, single, sources, tell)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))


main()
