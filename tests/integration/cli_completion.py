#!/usr/bin/env python3
"""Completion in bash and zsh: every verb, option, enumerated value and column of --help is offered, and the ids and
names that storctl lists. Arguments: storctl, bash script, folder of the zsh script."""
import os
import pathlib
import pty
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import cli_table

DEVICES = ['naa6.600140500000000000000000000000aa', 'path.pci-0000:00:1f.2-ata-1']
NODES = ['web1', 'db.main']
USB = ['1-2.1', '0000:00:14.0/2.1', '2-1', '0000:00:14.0/usb3-1']
CLAIMED = {'device': '0000:00:14.0/2.1', 'hub': '0000:00:14.0/3', 'controller': '0000:03:00.0'}
HOLDERS = ['vm:web1', 'vm:db']
DENIABLE = ['reset', 'configuration', 'firmware', 'vendor']
FUNCTIONS = ['0000:00:14.0', '0000:03:00.0']
DEADLINE_SECONDS = 20
BASH_COMPLETION = '/usr/share/bash-completion/bash_completion'

# what a shell finds when it asks storctl for ids and names; with --run-dir it answers otherwise
FAKE = f'''#!/bin/sh
case "$*" in
"device list --no-headings -o ID") printf '%s\\n' {' '.join(DEVICES)} ;;
"node list --no-headings -o NAME") printf '%s\\n' {' '.join(NODES)} ;;
"usb list --no-headings -o NAME,SOCKET") printf '%s  %s\\n' {' '.join(USB)} ;;
"usb claims --no-headings -o KIND,TARGET") printf '%-10s  %s\\n' {' '.join(f'{kind} {target}' for kind, target in CLAIMED.items())} ;;
"usb claims --no-headings -o HOLDER") printf '%s\\n' {' '.join(HOLDERS)} vm:web1 ;;
"pci list --no-headings -o ADDRESS") printf '%s\\n' {' '.join(FUNCTIONS)} ;;
"usb list --no-headings -o SOCKET") printf '%s\\n' {' '.join(USB[1::2])} ;;
"usb rule list --no-headings -o ID") printf '%s\\n' 3 14 ;;
"--run-dir /run/other node list --no-headings -o NAME") echo elsewhere ;;
"--run-dir=/run/other node list --no-headings -o NAME") echo elsewhere ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
'''


class Case:
    """`line` ends at the cursor; `expected` are among what is offered; `exact`: nothing else is."""

    def __init__(self, line, expected, exact=True):
        self.line, self.expected, self.exact = line, set(expected), exact


def cases(program):
    verbs = cli_table.verbs(program)
    paths = [verb.path for verb in verbs]
    objects = {path.rsplit(' ', 1)[0] for path in paths if ' ' in path}
    top = {path for path in paths if ' ' not in path} | {name.split()[0] for name in objects}
    out = [Case('storctl ', top), Case('storctl mon', ['monitor']), Case('storctl --color=never stat', ['status']),
           Case('storctl --color never stat', ['status']), Case('storctl --color=a', ['auto', 'always']),
           Case('storctl --', ['--run-dir', '--color', '--help', '--version'], False)]
    out += [Case(f'storctl {name} ', {p.removeprefix(name + ' ').split()[0] for p in paths if p.startswith(name + ' ')}) for name in sorted(objects)]
    for verb in verbs:
        names = ['--' + option.name for option in verb.options + verb.common]
        out.append(Case(f'storctl {verb.path} --', names))
        for option in verb.options + verb.common:
            if '|' in option.value and option.value != 'ID|PATH':
                values = option.value.split('|')
                out.append(Case(f'storctl {verb.path} --{option.name} ', values))
                out.append(Case(f'storctl {verb.path} --{option.name}={values[-1][:2]}', [values[-1]]))
        if verb.columns:
            out.append(Case(f'storctl {verb.path} -o ', verb.columns))
            out.append(Case(f'storctl {verb.path} --output ', verb.columns))
    return out + [
        Case('storctl device show ', DEVICES), Case('storctl device show naa', DEVICES[:1]),
        Case('storctl device share ', DEVICES), Case('storctl device share sda ', ['true', 'false', 'auto']),
        Case('storctl device share --reason text sda f', ['false']), Case('storctl node show w', ['web1']),
        Case('storctl node remove --force ', NODES), Case('storctl node stat db', ['db.main']),
        Case('storctl --run-dir /run/other node show ', ['elsewhere']),
        Case('storctl --run-dir=/run/other node show ', ['elsewhere']),
        Case('storctl node create web2 --device naa', DEVICES[:1]),
        Case('storctl node create web2 -d /et', ['/etc'], False),
        Case('storctl node create web2 --deny ', [*DENIABLE, 'none']), Case('storctl node create web2 --deny=n', ['none']),
        Case('storctl node create web2 --deny reset,', ['reset,' + word for word in DENIABLE if word != 'reset'], False),
        Case('storctl node create web2 --deny reset,n', []), Case('storctl node create web2 --deny reset,v', ['reset,vendor']),
        Case('storctl usb claim ', USB), Case('storctl usb claim 1-', USB[:1]), Case('storctl usb claim 1-2.1 2', USB[2:3]),
        Case('storctl usb claim 1-2.1 --for ', ['host', *HOLDERS]), Case('storctl usb claim 1-2.1 --for vm:w', HOLDERS[:1]),
        Case('storctl usb claim --for vm:web1 1-2.1 2-1 0000:00:14.0/u', USB[3:]),
        Case('storctl usb release --for vm:web1 ', [CLAIMED['device'], CLAIMED['hub']]),
        Case('storctl usb explain ', USB), Case('storctl pci explain ', FUNCTIONS),
        Case('storctl usb rule add --socket ', USB[1::2]), Case('storctl usb rule add --class sm', ['smartcard']),
        Case('storctl usb rule remove ', ['3', '14']), Case('storctl usb rule re', ['remove']),
        Case('storctl pci claim ', FUNCTIONS), Case('storctl pci claim 0000:03', FUNCTIONS[1:]),
        Case('storctl pci release ', [CLAIMED['controller']]),
    ]


def bash_words(line):
    """As readline cuts them: = and : are words of their own."""
    words = []
    for word in line.split(' '):
        part = ''
        for char in word:
            if char in '=:':
                if part and part[-1] not in '=:':
                    words.append(part)
                    part = ''
                part += char
            else:
                if part and part[-1] in '=:':
                    words.append(part)
                    part = ''
                part += char
        words.append(part)
    return words


def ask_bash(script, all_cases, environment):
    lines = [f'source {BASH_COMPLETION}', f'source {shlex.quote(script)}']
    for case in all_cases:
        words = bash_words(case.line)
        lines.append(f'COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1} '
                     f'COMP_LINE={shlex.quote(case.line)} COMP_POINT={len(case.line)} COMPREPLY=()')
        lines.append('_storctl; printf "%s\\n" "${COMPREPLY[@]}"; echo "--end--"')
    done = subprocess.run(['bash', '--norc', '-u', '-c', '\n'.join(lines)], capture_output=True, text=True,
                          env=environment, timeout=DEADLINE_SECONDS * 3)
    complaints = [line for line in done.stderr.splitlines() if line]
    assert not complaints, f'bash completion writes to standard error: {complaints}'
    answers = done.stdout.split('--end--\n')
    assert len(answers) == len(all_cases) + 1, f'bash answered {len(answers) - 1} of {len(all_cases)}:\n{done.stderr}'
    return [set(filter(None, answer.split('\n'))) for answer in answers[:-1]]


ZSH_SETUP = '''
PROMPT= PS2= RPROMPT=
unset zle_bracketed_paste
fpath=({folder} $fpath)
autoload -Uz compinit && compinit -u -D
zstyle ':completion:*' verbose no
function compadd {{
    if [[ " ${{(j: :)@[1,(i)(-|--)]}} " != *\\ -[OAD]\\ * ]]; then
        local -a offered
        builtin compadd -O offered "$@"
        (( $#offered )) && print -rl -u {fd} -- $offered
    fi
    builtin compadd "$@"
}}
function complete_and_tell {{ zle complete-word; print -r -u {fd} -- --end-- }}
zle -N complete_and_tell
bindkey '^I' complete_and_tell
print -r -u {fd} -- --end--
'''


class Zsh:
    """An interactive zsh on a terminal; what its completion offers comes through a pipe."""

    def __init__(self, folder, environment):
        self.reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe('zsh', ['zsh', '-f', '-i'], environment)
        os.close(writer)
        self.pending = b''
        setup = pathlib.Path(environment['HOME'], 'setup.zsh')
        setup.write_text(ZSH_SETUP.format(folder=shlex.quote(folder), fd=writer))
        os.write(self.terminal, f'source {setup}\n'.encode())
        self.until_end('starting')

    def until_end(self, what):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while b'--end--\n' not in self.pending:
            left = deadline - time.monotonic()
            assert left > 0, f'zsh gave no answer while {what}: {self.pending!r}'
            ready, _, _ = select.select([self.reader, self.terminal], [], [], left)
            if self.terminal in ready:
                os.read(self.terminal, 65536)
            if self.reader in ready:
                got = os.read(self.reader, 65536)
                assert got, f'zsh ended while {what}'
                self.pending += got
        answer, self.pending = self.pending.split(b'--end--\n', 1)
        return {word for word in answer.decode().split('\n') if word}

    def ask(self, line):
        os.write(self.terminal, b'\x15' + line.encode() + b'\t')
        return self.until_end(f'completing {line!r}')

    def close(self):
        os.close(self.terminal)
        os.close(self.reader)
        os.waitpid(self.pid, 0)


def ask_zsh(folder, all_cases, environment):
    checked = subprocess.run(['zsh', '-n', folder + '/_storctl'], capture_output=True, text=True)
    assert checked.returncode == 0, f'zsh does not read the script: {checked.stderr}'
    shell = Zsh(folder, environment)
    answers = [shell.ask(case.line) for case in all_cases]
    shell.close()
    return answers


def compare(shell, all_cases, answers):
    wrong = 0
    for case, answer in zip(all_cases, answers):
        offered = {word.rstrip('=') for word in answer}
        options = {word for word in offered if word.startswith('-')}
        if not any(word.startswith('-') for word in case.expected):
            offered -= options          # zsh offers options where an argument may stand, too
        else:
            offered = {word for word in offered if word.startswith('--')}
        expected = case.expected
        word = case.line.split(' ')[-1].split('=')[-1]
        if shell == 'bash' and ':' in word:     # a colon ends a word of readline's
            expected = {each.removeprefix(word[:word.rindex(':') + 1]) for each in expected}
        if shell == 'zsh':              # it offers the last part of a path and of a list
            expected = {word.split('/')[-1] if word.startswith('/') else word.split(',')[-1] for word in expected}
        missing, extra = expected - offered, offered - expected if case.exact else set()
        if missing or extra:
            wrong += 1
            print(f'{shell}: {case.line!r}: missing {sorted(missing)}, extra {sorted(extra)}')
    return wrong


def main():
    program, bash_script, zsh_folder = (os.path.abspath(path) for path in sys.argv[1:4])
    if not os.path.exists(BASH_COMPLETION):
        print('skipped: bash-completion is not installed')
        sys.exit(77)
    all_cases = cases(program)
    with tempfile.TemporaryDirectory() as folder:
        fake = pathlib.Path(folder, 'storctl')
        fake.write_text(FAKE)
        fake.chmod(0o755)
        environment = {'PATH': f'{folder}:/usr/bin:/bin', 'HOME': folder, 'TERM': 'dumb', 'LC_ALL': 'C.UTF-8'}
        wrong = compare('bash', all_cases, ask_bash(bash_script, all_cases, environment))
        if shutil.which('zsh'):
            wrong += compare('zsh', all_cases, ask_zsh(zsh_folder, all_cases, environment))
        else:
            print('zsh is not installed: its completion was not tried')
    assert wrong == 0, f'{wrong} wrong'
    print(f'{len(all_cases)} lines completed as expected')


if __name__ == '__main__':
    main()
