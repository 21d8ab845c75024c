#!/usr/bin/env python3
"""Counts comment blocks that do not stand alone: those that break the rules of English in CONTRIBUTING.md.

usage: comments.py [--list] [--max PERCENT] [FILE or FOLDER ...]     (default: src)

A block is a run of comment lines of one kind (`//!`, `///` or `//`). Tests are left out. A block breaks
  1  where it is a clause without a subject ("Who asks.") or points at its own code ("It, as it is.")
  2  where the doc of a function does not begin with a verb in the third person ("Returns", "Sends")
  3  where the doc of a boolean field does not begin with "Whether"
  4  where it is a telegram ("None: the name is none.")
  5  where a default is not written as "(default: X)"
  6  where it has an archaic connective ("but for", "anew", "of late")
  7  where code is given a mind ("tells", "hears", "wants", "owes")
With --list each block is printed with its file, line and rules; with --max the exit code is 1 above that share.
"""

import os
import re
import sys

# A clause where a noun or a sentence belongs. "When" and "If" may begin a sentence with a main clause, after a comma.
CLAUSE = re.compile(
    r"^(Who|What|Where|How|Which|Why|That|Than|So (many|much|long|far|old|often|few)|As (it|they|people|much|many|long)|"
    r"By (what|which|whom|whose)|Of (what|which|whom|whose)|For (what|which|whom|whose)|From (what|which|where|whom)|"
    r"To (what|which|whom|where)|In (what|which)|On (what|which)|Since when|Until when|With (what|which)|"
    r"Nothing|Nobody|Everyone|Everything|Anyone who|Those|These|One that|One of|It|Its|They|Their|Theirs|Ours|Also|Not|Or|And|But)\b"
)
WHEN = re.compile(r"^(When|Until|While|Since|Before|After|Once|As soon as)\b[^,]*$")
TELEGRAM = re.compile(r"(\bNone|\bnone|\bNothing|\bnothing|\bZero|\bEmpty): |[;,.] none (where|when|if|unless)\b|\bnone (where|when) ")
DEFAULT = re.compile(r"(?<!\()\bdefault:? (is )?[\d`\"]|; default\b|, default \S+[.;)]")
ARCHAIC = re.compile(
    r"\b(but for|anew|of late|by now|whoever|whom|be it|how-manieth|is none|are none|as it is|hither|thereof|thereby|"
    r"wherein|whereby|ere|lest|albeit|whatsoever|otherwise than|none but|so it is|so they are|naught|in vain)\b",
    re.I,
)
MIND = re.compile(
    r"\b(tells?|told|telling|hears?|heard|hearing|knows|knew|wants?|wanted|wanting|owes?|owed|owing|see to it|sees to it|"
    r"looks|looked|looking|minds|forgets?|forgot|forgotten|remembers?|remembered)\b",
    re.I,
)
VERB = re.compile(r"^(`[^`]+` )?[A-Z][a-z]*(-[a-z]+)?s\b")
NOT_A_VERB = {"This", "Its", "As", "Is", "Has", "Us", "His", "Less", "Plus", "Always", "Perhaps", "Others", "Yes", "Does", "Was"}
PLURALS = re.compile(r"^[A-Z][a-z]*s (of|that|which|who|with|in|on|at|to|for|and|or|are|were|from|as|by)\b")


def blocks(text):
    """Yields (line, kind, text, following line of code) of each block outside of tests."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        stripped = lines[at].strip()
        if stripped == "#[cfg(test)]":
            following = next((l.strip() for l in lines[at + 1 :] if l.strip()), "")
            if re.match(r"(pub )?mod \w+ \{", following):
                return
        kind = re.match(r"(//!|///|//)( |$)", stripped)
        if not kind:
            at += 1
            continue
        first, kind = at, kind.group(1)
        words = []
        while at < len(lines):
            stripped = lines[at].strip()
            if not re.match(re.escape(kind) + r"( |$)", stripped):
                break
            words.append(stripped[len(kind) :].strip())
            at += 1
        after = at
        while after < len(lines) and re.match(r"\s*(#\[|\)\]|$)", lines[after]):
            after += 1
        yield first + 1, kind, words, lines[after].strip() if after < len(lines) else ""


def prose(words):
    """The text of a block without code examples, tables and pictures."""
    out, fenced = [], False
    for line in words:
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "- ", "* ")):
            out.append(line)
    text = " ".join(out)
    text = re.sub(r"\"[^\"]*\"|“[^”]*”", "\"…\"", text)
    return re.sub(r"`[^`]*`", "`x`", text).strip()


def broken(kind, words, following):
    text = prose(words)
    rules = set()
    if not text:
        return rules
    function = kind == "///" and re.match(r"(pub(\([^)]*\))? )?(const |async |unsafe )*fn\b", following)
    boolean = kind == "///" and re.match(r"(pub(\([^)]*\))? )?\w+: bool,", following)
    if kind != "//":
        first = re.split(r"(?<=[.:;])\s", text)[0]
        if CLAUSE.match(text) or WHEN.match(first):
            rules.add(1)
        if function and (not VERB.match(text) or text.split()[0] in NOT_A_VERB or PLURALS.match(text)):
            rules.add(2)
        if boolean and not text.startswith("Whether"):
            rules.add(3)
    elif re.match(r"^(Who|What|Where|How|Which|Why|That|So many|So much|None|Theirs|Ours)\b[^,]*\.$", text) and "?" not in text:
        rules.add(1)
    if TELEGRAM.search(text):
        rules.add(4)
    if DEFAULT.search(text):
        rules.add(5)
    if ARCHAIC.search(text):
        rules.add(6)
    if MIND.search(text):
        rules.add(7)
    return rules


def sources(paths):
    for path in paths:
        if os.path.isfile(path):
            yield path
        for folder, _, files in sorted(os.walk(path)):
            for name in sorted(files):
                whole = os.path.join(folder, name)
                if name.endswith(".rs") and not name.endswith("tests.rs") and "/tests/" not in whole:
                    yield whole


def main():
    arguments = sys.argv[1:]
    listed = "--list" in arguments
    limit = None
    if "--max" in arguments:
        limit = float(arguments[arguments.index("--max") + 1])
        del arguments[arguments.index("--max") : arguments.index("--max") + 2]
    paths = [a for a in arguments if not a.startswith("--")] or ["src"]
    total, bad = 0, 0
    per_rule = {}
    for path in sources(paths):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for line, kind, words, following in blocks(text):
            total += 1
            rules = broken(kind, words, following)
            bad += bool(rules)
            for rule in rules:
                per_rule[rule] = per_rule.get(rule, 0) + 1
            if rules and listed:
                shown = " ".join(words)
                print(f"{path}:{line}: [{','.join(map(str, sorted(rules)))}] {shown[:300]}")
    share = 100 * bad / max(total, 1)
    counts = ", ".join(f"rule {rule}: {count}" for rule, count in sorted(per_rule.items()))
    print(f"{bad} of {total} comment blocks ({share:.1f} %){'; ' + counts if counts else ''}")
    return 1 if limit is not None and share > limit else 0


if __name__ == "__main__":
    sys.exit(main())
