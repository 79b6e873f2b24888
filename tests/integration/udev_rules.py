#!/usr/bin/env python3
"""The udev rules as built, read strictly: only known keys and operators, labels that exist below their GOTO, no key
twice by accident, a program path that is absolute, a number between what marks a disk and what may use our properties.
`udevadm verify` says the same where it exists (systemd 254)."""

import pathlib
import re
import subprocess
import sys

TOKEN = re.compile(r'\s*([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
MATCH = {'ACTION', 'DEVPATH', 'KERNEL', 'KERNELS', 'NAME', 'SUBSYSTEM', 'SUBSYSTEMS', 'DRIVER', 'DRIVERS', 'ATTR',
         'ATTRS', 'ENV', 'TAG', 'TAGS', 'TEST', 'PROGRAM', 'RESULT', 'IMPORT', 'CONST'}
ASSIGN = {'SYMLINK', 'OWNER', 'GROUP', 'MODE', 'ENV', 'TAG', 'RUN', 'LABEL', 'GOTO', 'IMPORT', 'OPTIONS', 'ATTR'}
IMPORTS = {'program', 'builtin', 'file', 'db', 'cmdline', 'parent'}
FIRST, LAST = 65, 69  # after 60-multipath and 64-btrfs, before the rules that use our properties


def check(condition, where, message):
    if not condition:
        sys.exit(f'FAIL: {where}: {message}')


def tokens_of(line, where):
    position, tokens = 0, []
    while position < len(line):
        token = TOKEN.match(line, position)
        check(token, where, f'cannot read from "{line[position:]}"')
        check(token[5] == ',' or token.end() == len(line), where, 'something follows the last key')
        tokens.append(token.groups()[:4])
        position = token.end()
    check(not line.rstrip().endswith(','), where, 'ends in a comma')
    return tokens


def main():
    rules = pathlib.Path(sys.argv[1])
    number = int(rules.name.split('-')[0])
    check(FIRST <= number <= LAST, rules.name, f'sorts at {number}, not in {FIRST}..{LAST}')
    text = rules.read_text()
    check('@' not in text, rules.name, 'a placeholder was left')
    jumps, labels, programs = {}, {}, []
    for index, line in enumerate(text.replace('\\\n', '  ').splitlines(), 1):
        where = f'{rules.name}:{index}'
        if not line.strip() or line.startswith('#'):
            continue
        for key, attribute, operator, value in tokens_of(line, where):
            known = MATCH if operator in ('==', '!=') else ASSIGN
            check(key in known, where, f'{key}{operator} is no udev key')
            if key == 'IMPORT':
                check(attribute in IMPORTS, where, f'IMPORT{{{attribute}}} is unknown')
                if attribute == 'program':
                    programs.append(value)
            elif key == 'GOTO':
                jumps.setdefault(value, index)
                check(value not in labels, where, f'jumps back to {value}')
            elif key == 'LABEL':
                check(value not in labels, where, f'{value} is there twice')
                labels[value] = index
    check(jumps.keys() == labels.keys(), rules.name, f'jumps {set(jumps)} and labels {set(labels)} differ')
    check(len(programs) == 1 and re.fullmatch(r'/\S+/storctl hook udev', programs[0]), rules.name,
          f'imports from {programs}')
    for mark in ('SYSTEMD_READY', 'DM_MULTIPATH_DEVICE_PATH', 'DM_UDEV_DISABLE_OTHER_RULES_FLAG'):
        at = text.find(f'ENV{{{mark}}}')
        check(0 <= at < text.index('IMPORT{program}'), rules.name, f'does not look at {mark} before it asks')
    verify = subprocess.run(['udevadm', 'verify', rules], capture_output=True, text=True, check=False)
    if 'Unknown command' not in verify.stderr + verify.stdout:
        check(verify.returncode == 0, rules.name, verify.stderr + verify.stdout)


main()
