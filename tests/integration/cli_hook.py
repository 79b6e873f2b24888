#!/usr/bin/env python3
"""'storctl hook udev' in mocked device trees: without stord's state file it gives each device the identity, locality and
flag that stord will give it; with one, stord's word; it takes milliseconds and always exits 0. Argument: storctl."""
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / 'devices'))
import devices  # noqa: E402  pylint: disable=wrong-import-position

STORCTL = os.path.abspath(sys.argv[1])
TREES = pathlib.Path(devices.__file__).parent
DEADLINE_SECONDS = 30


def udev_environment(tree, name):
    """What udev gives a helper for this device: the E: lines of the description."""
    for block in (TREES / f'{tree}.umockdev').read_text().split('\n\n'):
        lines = block.strip().splitlines()
        lines = [line for line in lines if not line.startswith('#')]
        if not lines or not lines[0].startswith('P: ') or not lines[0].endswith('/' + name):
            continue
        environment = dict(line[3:].split('=', 1) for line in lines if line.startswith('E: '))
        return environment | {'DEVPATH': lines[0][3:]}
    sys.exit(f'FAIL: {tree}.umockdev has no {name}')


def hook(tree, *words, environment=(), run_dir='/nonexistent', commands=None):
    """Properties by name; `commands`: an argv to run instead, inside the same tree."""
    command = ['umockdev-run', '--device', str(TREES / f'{tree}.umockdev'), '--',
               *(commands or [STORCTL, '--run-dir', run_dir, 'hook', 'udev', *words])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
                          env={'PATH': os.environ['PATH'], 'LC_ALL': 'C.UTF-8', **dict(environment)})
    assert done.returncode == 0, f'{tree} {words}: exit {done.returncode}: {done.stderr}'
    return dict(line.split('=', 1) for line in done.stdout.splitlines())


def expected(row):
    return {'STORCTL_ID': row['id'], 'STORCTL_LOCAL': row['locality'], 'STORCTL_SHARED': '1' if row.get('shared') else '0'}


def same(what, answer, wanted):
    assert answer == wanted, f'{what}: {answer}, expected {wanted}'


def hooks(tree, calls):
    """Several calls in one mocked tree, which takes half a second to set up; a call is (words, environment)."""
    lines = []
    for words, environment in calls:
        sets = ' '.join(shlex.quote(f'{key}={value}') for key, value in environment.items())
        lines.append(f'env {sets} {shlex.quote(STORCTL)} --run-dir /nonexistent hook udev {shlex.join(words)} || exit; echo --end--')
    done = subprocess.run(['umockdev-run', '--device', str(TREES / f'{tree}.umockdev'), '--', 'sh', '-c', '\n'.join(lines)],
                          capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, f'{tree}: exit {done.returncode}: {done.stderr}'
    return [dict(line.split('=', 1) for line in answer.splitlines()) for answer in done.stdout.split('--end--\n')[:-1]]


def test_unseen_devices():
    """By kernel name and device node from sysfs alone, and as udev calls it."""
    for tree, rows in devices.TREES.items():
        rows = {name: row for name, row in rows.items() if not row.get('conflict')}    # test_twins has those
        calls = [call for name in rows
                 for call in (([name], {}), (['/dev/' + name], {}), ([], udev_environment(tree, name)))]
        answers = hooks(tree, calls)
        assert len(answers) == len(calls), f'{tree}: {answers}'
        for number, name in enumerate(rows):
            for answer in answers[3 * number:3 * number + 3]:
                same(f'{tree} {name}', answer, expected(rows[name]))


def test_partitions_and_paths():
    fc = expected(devices.TREES['fc_multipath']['dm-0'])
    for name in ('sdc', 'sdf', 'dm-1'):
        same(name, hook('fc_multipath', name), fc)
    same('an LVM volume', hook('fc_multipath', 'dm-2'), {})
    sata = expected(devices.TREES['sata']['sdb'])
    same('sdb1', hook('sata', 'sdb1'), sata)
    same('sdb1 in udev', hook('sata', environment=udev_environment('sata', 'sdb1')), sata)


def known(row, name, **changes):
    identifiers = [{'type': row['id'].split('.', 1)[0], 'value': row['id'].split('.', 1)[1], 'quality': row['quality'],
                    'usable': True, 'why': None}]
    return {'id': row['id'], 'name': name, 'locality': row['locality'], 'identifiers': identifiers, 'paths': [],
            'sharing': {'shared': True}} | changes


def with_state(devices_known, tree, name, folder):
    pathlib.Path(folder, 'state.json').write_text(
        json.dumps({'version': 1, 'devices': devices_known, 'nodes': [], 'written': 'now'}, separators=(',', ':')))
    return hook(tree, name, run_dir=folder)


def test_state_file():
    row = devices.TREES['sata']['sda']
    other = devices.TREES['sas']['sdh']
    with tempfile.TemporaryDirectory() as folder:
        same('decided by an administrator', with_state([known(row, 'sda')], 'sata', 'sda', folder),
             expected(row) | {'STORCTL_SHARED': '1'})
        same('the name was given anew', with_state([known(other, 'sda')], 'sata', 'sda', folder), expected(row))
        same('came back under another name', with_state([known(row, 'sdz')], 'sata', 'sda', folder),
             expected(row) | {'STORCTL_SHARED': '1'})
        same('hostile values', with_state([known(row, 'sda', id='a b\n"c"', locality='$(x)')], 'sata', 'sda', folder),
             {'STORCTL_ID': 'a_b__c_', 'STORCTL_LOCAL': '__x_', 'STORCTL_SHARED': '1'})
        for text in ('', '{', '{"version":2,"devices":[]}', 'x' * 100000):
            pathlib.Path(folder, 'state.json').write_text(text)
            same(f'a state file of {text[:9]!r}', hook('sata', 'sda', run_dir=folder), expected(row) | {'STORCTL_SHARED': 'unknown'})


def test_twins():
    """Two present devices with one identifier: stord knows one of them; the other is not taken for it."""
    rows = devices.TREES['usb_same_serial']
    first = {'id': 'model-serial.JMicron_Generic_2022071300A5', 'quality': 'medium', 'locality': 'yes'}
    with tempfile.TemporaryDirectory() as folder:
        same('sdj', with_state([known(first, 'sdi')], 'usb_same_serial', 'sdj', folder), expected(rows['sdj']))
        same('sdi', with_state([known(first, 'sdi')], 'usb_same_serial', 'sdi', folder), expected(first) | {'STORCTL_SHARED': '1'})


def test_never_fails():
    assert hook('sata', 'sdz') == {}
    assert hook('sata') == {}
    assert hook('sata', '../../etc/passwd') == {}
    assert hook('sata', environment={'DEVPATH': '/devices/nothing/block/sdq', 'DEVNAME': '/dev/sdq'}) == {}
    assert hook('sata', commands=[STORCTL, 'hook', 'udev', '--bogus']) == {}
    assert hook('sata', commands=[STORCTL, 'hook', 'udev', 'a', 'b', 'c']) == {}


def test_time():
    """A storm of devices asks once per device, beside a host's worth of known ones."""
    row = devices.TREES['sata']['sda']
    many = [known(row | {'id': f'naa6.{number:032x}'}, f'sd-{number}', identifiers=[
        {'type': 'naa6', 'value': f'{number:032x}', 'quality': 'high', 'usable': True, 'why': None}] * 4,
        links=['/dev/disk/by-id/wwn-0x' + 'f' * 32] * 6) for number in range(1000)] + [known(row, 'sda')]
    rounds = 20
    with tempfile.TemporaryDirectory() as folder:
        same('among a thousand', with_state(many, 'sata', 'sda', folder), expected(row) | {'STORCTL_SHARED': '1'})
        # inside one mocked tree, so that only the helper's own time counts; the fastest half is free of the machine's noise
        script = f'import subprocess,time\nfor _ in range({rounds}):\n a=time.monotonic()\n subprocess.run([{STORCTL!r},"--run-dir",' \
                 f'{folder!r},"hook","udev","sda"],stdout=subprocess.DEVNULL)\n print(f"{{_}}={{time.monotonic()-a}}")'
        took = hook('sata', commands=[sys.executable, '-c', script])
    middle = statistics.median(sorted(map(float, took.values()))[:rounds // 2])
    print(f'one call takes {middle * 1000:.1f} ms, the start of the process included')
    assert len(took) == rounds and middle < 0.1, took


def main():
    if shutil.which('umockdev-run') is None:
        print('skipped: umockdev-run is not installed (package umockdev)')
        sys.exit(77)
    for name, test in list(globals().items()):
        if name.startswith('test_'):
            started = time.monotonic()
            test()
            print(f'{name}: good ({time.monotonic() - started:.1f} s)')


if __name__ == '__main__':
    main()
