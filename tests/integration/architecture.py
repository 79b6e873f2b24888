#!/usr/bin/env python3
"""ARCHITECTURE.md's table of rooms is true: every include of one of our headers goes from a room to one that it may
use, every room stands in the table, and "may be used by" is "may use" read backwards."""

import pathlib
import re
import sys

ROW = re.compile(r'^\| `([a-z/]+)/` \|[^|]*\| ([^|]*) \| ([^|]*) \|$', re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
GENERATED = {'storctl_version.hpp'}


def names(cell):
    return set(re.findall(r'`([a-z/]+)/`', cell))


def room_of(path, rooms):
    """The longest room that the path lies in; None outside all of them."""
    return max((room for room in rooms if path.startswith(room + '/')), key=len, default=None)


def main():
    root = pathlib.Path(sys.argv[1])
    table = {room: (names(uses), names(users))
             for room, uses, users in ROW.findall((root / 'ARCHITECTURE.md').read_text())}
    problems = []
    if len(table) < 5:
        sys.exit(f'FAIL: only {len(table)} rooms could be read from ARCHITECTURE.md')
    for room, (uses, users) in table.items():
        for other in uses | users:
            if other not in table:
                problems.append(f'{room}/: the table knows no {other}/')
        expected = {other for other, (theirs, _) in table.items() if room in theirs}
        if users != expected:
            problems.append(f'{room}/: "may be used by" says {sorted(users)}, "may use" of the others {sorted(expected)}')
    sources = [path for pattern in ('*.cpp', '*.hpp', '*.h', '*.c') for path in root.rglob(pattern)]
    checked = 0
    for path in sources:
        name = path.relative_to(root).as_posix()
        top = name.split('/')[0]
        if top.startswith(('build', '.')) or top in ('tests', 'bench', 'tools'):
            continue
        room = room_of(name, table)
        if room is None:
            problems.append(f'{name}: lies in no room of the table')
            continue
        for header in INCLUDE.findall(path.read_text()):
            checked += 1
            if header in GENERATED or header.endswith('.inc') or '.varlink' in header:
                continue
            other = room_of(header, table)
            if other is None:
                problems.append(f'{name}: "{header}" is not named from the top of the tree')
            elif other != room and other not in table[room][0]:
                problems.append(f'{name}: {room}/ may not use {other}/ ("{header}")')
    if not checked:
        problems.append('no include was found: wrong folder?')
    if problems:
        sys.exit('FAIL: ' + '\nFAIL: '.join(sorted(problems)))
    print(f'{checked} includes in {len(sources)} files keep to the table')


main()
