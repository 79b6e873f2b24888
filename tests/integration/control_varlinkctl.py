#!/usr/bin/env python3
"""systemd's varlinkctl, a client that nobody here wrote, understands our server and our interface descriptions.

    control_varlinkctl.py CONTROL_SERVER DESCRIPTION...
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

DEADLINE_SECONDS = 30


def ask(*arguments):
    done = subprocess.run(['varlinkctl', *arguments], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    return done.returncode, done.stdout, done.stderr


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f'FAIL: {what}: {found!r} instead of {wanted!r}')


def check(path, descriptions):
    status, out, err = ask('info', path)
    expect('info: ' + err, (status, 'storctl' in out, 'io.storctl.Device' in out), (0, True, True))
    _, out, _ = ask('list-interfaces', path)
    expect('interfaces', out.split(), ['io.storctl.Device', 'org.varlink.service'])
    for interface in out.split():
        status, text, err = ask('introspect', path, interface)
        expect(f'introspect {interface}: {err}', (status, f'interface {interface}' in text), (0, True))

    status, out, _ = ask('call', '--json=short', path, 'io.storctl.Device.List', '{}')
    expect('List', (status, json.loads(out)), (0, {'devices': []}))
    status, out, err = ask('call', '--json=short', path, 'io.storctl.Device.Show', '{"id":"x"}')
    expect('an error', (status, 'io.storctl.Device.NotFound' in err, json.loads(out)), (1, True, {'id': 'x'}))
    status, out, err = ask('call', '--json=short', path, 'io.storctl.Device.Show', '{"id":1}')
    expect('a wrong parameter', (status, 'InvalidParameter' in err, json.loads(out)['parameter']), (1, True, 'id'))
    status, out, _ = ask('call', '--more', '--json=short', path, 'io.storctl.Device.List', '{}')
    expect('a call that takes a stream', (status, json.loads(out.strip('\x1e\n'))), (0, {'devices': []}))

    for description in descriptions:
        status, _, err = ask('validate-idl', description)
        expect(f'{description}: {err}', status, 0)


def main():
    if not shutil.which('varlinkctl'):
        print('varlinkctl is not installed (systemd 255 or later)')
        sys.exit(77)
    server, *descriptions = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix='storctl-') as folder:
        path = f'{folder}/socket'
        process = subprocess.Popen([server, path])
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not os.path.exists(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit('FAIL: the server does not start')
                try:
                    process.wait(0.02)
                except subprocess.TimeoutExpired:
                    pass
            check(path, descriptions)
        finally:
            process.kill()
            process.wait()
    print(f'varlinkctl understands the server and {len(descriptions)} descriptions')


main()
