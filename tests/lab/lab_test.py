"""What the lab's tests share. Runs inside a guest; Python 3, standard library only.

Everything waits for what it waits for, with a deadline that allows for an emulated processor."""

import json
import os
import pathlib
import select
import subprocess
import sys
import time

BUILD = pathlib.Path(os.environ['BUILD'])
PATIENCE = 60  # seconds; nothing here takes that long unless it hangs


def fail(message):
    sys.exit(f'FAIL: {message}')


def check(condition, message):
    if not condition:
        fail(message)


def step(text):
    print(f'-- {time.monotonic():6.1f} {text}', flush=True)


def run(*command, status=0, **options):
    """Runs a program to its end; its stdout. Another exit status than `status` fails the test."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          timeout=options.pop('timeout', 4 * PATIENCE), **options)
    if done.returncode != status:
        fail(f"{' '.join(map(str, command))}: exit status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout if status == 0 else done.stdout + done.stderr


def until(what, condition):
    """Asks until `condition` gives something true, and returns it. Each question is a program's run: no pause between."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            fail(f'{what}: not within {PATIENCE} s')


class Storctl:
    """The command, of the installed or the build tree, against one run folder."""

    def __init__(self, program, run_dir=None):
        self._command = [str(program)] + (['--run-dir', str(run_dir)] if run_dir else [])

    def __call__(self, *arguments, status=0):
        return run(*self._command, *arguments, status=status)

    def json(self, *arguments):
        return json.loads(self(*arguments, '--json'))

    def node(self, name):
        return self.json('node', 'show', name)['node']

    def device(self, name):
        return self.json('device', 'show', name)['device']

    def until_node(self, name, state, **members):
        """Waits until the node is in this state, and has these members."""
        def there():
            node = self.node(name)
            return node if node['state'] == state and members.items() <= node.items() else None
        return until(f'node {name} {state} {members or ""}', there)

    def form(self, name, kind):
        """Where a consumer opens the node."""
        return next(form['path'] for form in self.node(name)['forms'] if form['type'] == kind)


class UdevMonitor:
    """Follows udev's events from before something happens."""

    def __init__(self):
        self._process = subprocess.Popen(
            ['udevadm', 'monitor', '--udev', '--property', '--subsystem-match=block'],
            stdout=subprocess.PIPE)
        self._buffer = b''
        self._next('udevadm monitor starts', lambda block: b'will print' in block)

    def wait(self, what, **properties):
        """The properties of the next event that has these."""
        def wanted(block):
            found = dict(line.split('=', 1) for line in block.decode(errors='replace').splitlines() if '=' in line)
            return found if properties.items() <= found.items() else None
        return self._next(what, wanted)

    def _next(self, what, wanted):
        deadline = time.monotonic() + PATIENCE
        while True:
            while b'\n\n' in self._buffer:
                block, self._buffer = self._buffer.split(b'\n\n', 1)
                found = wanted(block)
                if found:
                    return found
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                fail(f'{what}: no such event within {PATIENCE} s')
            self._buffer += os.read(self._process.stdout.fileno(), 65536)

    def close(self):
        self._process.kill()
        self._process.wait()


def udev_property(device, name):
    return run('udevadm', 'info', '--query=property', f'--property={name}', '--value', device).strip()


def fio(path, *options, name='verify', size='24m', background=False):
    """Writes with checksums and reads them back: 4k random and 1M blocks mixed, past the page cache."""
    command = ['fio', f'--name={name}', f'--filename={path}', '--rw=randwrite', f'--size={size}', '--direct=1',
               '--ioengine=libaio', '--iodepth=8', '--bssplit=4k/90:1m/10', '--verify=crc32c', '--verify_fatal=1',
               '--end_fsync=1', '--output-format=terse', '--minimal', *options]
    if background:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run(*command)
