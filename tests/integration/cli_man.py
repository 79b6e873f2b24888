#!/usr/bin/env python3
"""The manual pages are true: every verb and option of --help stands in its page and the other way round, and so does every
key of stord.toml with its section and default. Arguments: folder of the pages' sources, storctl, then stord and stor-node
where they are built."""
import pathlib
import re
import subprocess
import sys

import cli_table

OBJECTS = ('device', 'node', 'usb', 'pci')     # with a page each
problems = []


def same(where, what, said, true):
    for missing in sorted(true - said):
        problems.append(f'{where}: {what} {missing} is missing')
    for extra in sorted(said - true):
        problems.append(f'{where}: there is no {what} {extra}')


class Page:
    def __init__(self, folder, name):
        self.name = name
        self.text = (folder / f'{name}.scd').read_text()

    def section(self, title):
        found = re.search(rf'^# {re.escape(title)}\n(.*?)(?=^# |\Z)', self.text, re.M | re.S)
        if not found:
            problems.append(f'{self.name}: no section {title}')
        return found.group(1) if found else ''

    def defined_options(self, title='OPTIONS'):
        """-o and --output of the lines that start an entry."""
        lines = re.findall(r'^(\*-.*)$', self.section(title), re.M)
        return {option for line in lines for option in re.findall(r'\*(--?[a-z-]+)\*', line)}

    def entries(self, title):
        return set(re.findall(r'^\*([a-z_ ]+)\*', self.section(title), re.M))


def spelled(options):
    return {'--' + option.name for option in options} | {'-' + option.letter for option in options if option.letter}


def check_synopsis(page, verbs):
    lines = re.split(r'\+\+\n', page.section('SYNOPSIS').strip())
    by_path = {re.match(r'\*storctl ([a-z ]+)\*', line).group(1): line for line in lines}
    same(page.name + ', SYNOPSIS', 'verb', set(by_path), {verb.path for verb in verbs})
    for verb in verbs:
        said = set(re.findall(r'\*(--?[a-z-]+)\*', by_path.get(verb.path, '')))
        true = {'-' + option.letter if option.letter else '--' + option.name for option in verb.options}
        same(f'{page.name}, SYNOPSIS of {verb.path}', 'option', said, true)


def check_storctl(folder, program):
    verbs = cli_table.verbs(program)
    common = spelled(verbs[0].common)
    for name in OBJECTS:
        page = Page(folder, f'storctl-{name}.8')
        own = [verb for verb in verbs if verb.path.startswith(name + ' ')]
        same(page.name, 'verb', page.entries('VERBS'), {verb.path.removeprefix(name + ' ') for verb in own})
        same(page.name, 'option', page.defined_options(), set().union(*(spelled(verb.options) for verb in own)))
        same(page.name, 'common option', set(re.findall(r'\*(--?[a-z-]+)\*', re.search(r'^Common to.*', page.text, re.M).group())),
             common)
        check_synopsis(page, own)
    page = Page(folder, 'storctl.8')
    alone = {verb.path.split()[0] for verb in verbs}
    same(page.name, 'verb', {entry.split()[0] for entry in page.entries('VERBS')}, alone)
    for verb in verbs:
        if ' ' in verb.path and f'*{verb.path}*' not in page.text.replace('\n', ' '):
            problems.append(f'{page.name}: {verb.path} is not mentioned')
    shared = {spelling for verb in verbs for option in verb.options for spelling in spelled([option])
              if sum(option.name in [other.name for other in each.options] for each in verbs) > 2}
    shared -= {'--dry-run', '-n', '--all', '-a'}    # each means something of its verb's own
    same(page.name, 'option', page.defined_options(), common | shared | {'--version'})
    codes = re.findall(r'^\*(\d)\*$', page.section('EXIT STATUS'), re.M)
    same(page.name, 'exit status', set(codes), set('0123456789'))


def check_json(folder):
    """Every member of a verb's document in docs/json.md stands in the JSON OUTPUT of its object's page, or of one that this refers to."""
    text = (folder.parent / 'docs/json.md').read_text()
    true = {}
    for titles, section in re.findall(r'^## (.*?)\n(.*?)(?=^## |\Z)', text, re.M | re.S):
        members = set(re.findall(r'"(\w+)":', ' '.join(re.findall(r'```json\n(.*?)```', section, re.S))))
        for title in titles.split(', '):
            name = f'storctl-{title.split()[0]}.8' if title.split()[0] in OBJECTS else 'storctl.8'
            true.setdefault(name, set()).update(members)
    assert len(true) == len(OBJECTS) + 1 and sum(map(len, true.values())) > 100, true
    for name, members in true.items():
        output = Page(folder, name).section('JSON OUTPUT')
        for other in set(re.findall(r'\*(storctl-\w+)\*\(8\)', output)):
            output += Page(folder, other + '.8').section('JSON OUTPUT')
        same(f'{name}, JSON OUTPUT', 'member', set(re.findall(r'\w+', output)) & members, members)


def check_daemon(folder, name, program):
    """CLI11's help: every option that it shows."""
    text = subprocess.run([program, '--help'], check=True, capture_output=True, text=True).stdout
    true = set(re.findall(r'(?:^\s+|,)(--?[a-z][a-z-]*)', text, re.M))
    assert '--help' in true, f'{name} --help shows no options: {text}'
    page = Page(folder, f'{name}.8')
    same(page.name, 'option', page.defined_options(), true)


def check_keys(folder, stord):
    text = subprocess.run([stord, '--print-config-reference'], check=True, capture_output=True, text=True).stdout

    def read(lines, section_pattern, key_pattern):
        section, out = '', set()
        for line in lines:
            if found := re.match(section_pattern, line):
                section = found.group(1)
            elif found := re.match(key_pattern, line):
                out.add(f'[{section}] {found.group(1)} = {found.group(2)}')
        return out

    true = read(text.splitlines(), r'\[(\w+)\]$', r'#?\s*(\w+) = (.*)$')
    assert len(true) > 10, f'the reference has only {true}'
    page = Page(folder, 'stord.toml.5')
    entries = page.text.split('# EXAMPLES')[0].splitlines()
    said = read(entries, r'# SECTION \[(\w+)\]$', r'\*(\w+)\* = (.*?)(?: _\(restart\)_)?$')
    same(page.name, 'key', said, true)


def main():
    folder, storctl = pathlib.Path(sys.argv[1]), sys.argv[2]
    check_storctl(folder, storctl)
    check_json(folder)
    for program in sys.argv[3:]:
        check_daemon(folder, pathlib.Path(program).name, program)
        if program.endswith('/stord'):
            check_keys(folder, program)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
