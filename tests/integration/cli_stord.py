#!/usr/bin/env python3
"""Every verb of storctl against a real stord and real nodes: text, exit statuses, and every JSON document, member by
member and type by type, against docs/json.md."""
import json
import os
import pathlib
import re
import select
import subprocess
import time
import unittest

from storctl_test import MIB, STORCTL, StordTestCase, require, wait_for

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 30


def read_documents():
    """The example of each section of docs/json.md by its title; an empty object or list stands for what another section has."""
    out = {}
    for section in re.split(r'^## ', (SOURCE / 'docs/json.md').read_text(), flags=re.M)[1:]:
        example = re.search(r'```json\n(.*?)```', section, re.S).group(1)
        for name in section.split('\n')[0].split(', '):
            out[name] = json.loads(example)
    device = out['device list']['devices'][0]
    node = {key: value for key, value in out['node list']['nodes'][0].items() if key != 'counts'}    # of the list alone
    out['device show']['device'] = out['device share']['device'] = device
    out['node show']['node'] = out['node create']['node'] = node
    claims, controllers = out['usb claims']['claims'], out['pci list']['controllers']
    controllers[0]['uses'] = out['usb list']['devices'][0]['uses']
    out['usb tree'].update(controllers=controllers, devices=out['usb list']['devices'], claims=claims)
    for bus in ('usb', 'pci'):
        out[f'{bus} claim']['claims'] = out[f'{bus} release']['released'] = out[f'{bus} explain']['claims'] = claims
    out['usb rule add']['rule'] = out['usb rule list']['rules'][0]
    return out


DOCUMENTS = read_documents()
NULLABLE = {'mean_ns', 'p50_ns', 'p99_ns', 'counts', 'urbs'}.union(
    *(re.findall(r'(\w+): \?', path.read_text()) for path in (SOURCE / 'control').glob('*.varlink')))


def compare(documented, answer, where):
    if answer is None:
        assert where.split('.')[-1] in NULLABLE, f'{where} is null'
    elif where == 'monitor.detail':     # a device or node: compared where it is known which
        assert isinstance(answer, dict), answer
    elif isinstance(answer, dict):
        if documented is not None:
            assert set(documented) == set(answer), f'{where}: documented {sorted(documented)}, answered {sorted(answer)}'
            for key, value in answer.items():
                compare(documented[key], value, f'{where}.{key}')
    elif isinstance(answer, list):
        for value in answer:
            assert documented, f'{where} is documented as always empty'
            compare(documented[0], value, where)
    elif documented is not None:
        numbers = isinstance(documented, (int, float)) and isinstance(answer, (int, float))
        assert type(documented) is type(answer) or (numbers and not isinstance(answer, bool)), \
            f'{where}: documented as {documented!r}, answered {answer!r}'


class Command(StordTestCase):
    def setUp(self):
        super().setUp()
        self.host = self.stord().start()

    def storctl(self, *words, code=0, out=(), err=(), cwd=None):
        """Standard output of a command that must end with `code` and say `out` and `err`."""
        done = subprocess.run([STORCTL, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS * 2, cwd=cwd,
                              env={'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': self.host.run_dir}, stdin=subprocess.DEVNULL)
        shown = f'storctl {" ".join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.host.log()}'
        self.assertEqual(done.returncode, code, shown)
        for text in [out] if isinstance(out, str) else out:
            self.assertIn(text, done.stdout, shown)
        for text in [err] if isinstance(err, str) else err:
            self.assertIn(text, done.stderr, shown)
        return done.stdout

    def document(self, *words, title=None, **options):
        answer = json.loads(self.storctl(*words, '--json', **options))
        title = title or ' '.join(words[:2])
        compare(DOCUMENTS[title], answer, title)
        return answer

    def first_device(self):
        devices = self.document('device', 'list')['devices']
        if not devices:
            self.skipTest('this machine has no disk that stord lists')
        return devices[0]

    def test_status(self):
        text = self.storctl('status', out=['state:', 'running', self.host.run_dir, 'findings:'])
        self.assertNotIn('\x1b', text)
        status = self.document('status', title='status')['status']
        self.assertEqual((status['pid'], status['run_dir']), (self.host.process.pid, self.host.run_dir))
        self.assertEqual(self.document('version', title='version')['release'], status['version'])

    def test_devices(self):
        device = self.first_device()
        listed = self.document('device', 'list')['devices']
        self.assertEqual(self.storctl('device', 'list', '--no-headings', '-o', 'ID').split('\n')[:-1], [d['id'] for d in listed])
        self.assertEqual(self.storctl('device', 'list', '--no-headings', '-b', '-o', 'size').split(),
                         [str(d['size_bytes']) for d in listed])
        for name in (device['id'], device['name'], device['devnode']):
            self.assertEqual(self.document('device', 'show', name)['device']['id'], device['id'])
        self.storctl('device', 'show', device['id'], out=[device['id'], device['sharing']['reason'], 'identifiers:', 'paths:'])
        self.storctl('device', 'show', 'no-such-device', code=5, err='no-such-device')
        compare(DOCUMENTS['device rescan'], json.loads(self.storctl('device', 'rescan', '-j')), 'device rescan')
        self.storctl('device', 'rescan', out='removed')

    def test_sharing(self):
        device = self.first_device()
        name = device['id']
        sharing = self.document('device', 'share', name, 'true', '--dry-run')['device']['sharing']
        self.assertEqual((sharing['shared'], sharing['basis']), (True, 'admin'))
        self.storctl('device', 'share', name, 'true', '-n', out='would be shared true (admin)')
        self.assertEqual(self.document('device', 'show', name)['device']['sharing'], device['sharing'], 'a dry run changed it')
        sharing = self.document('device', 'share', name, 'true', '--reason', 'zwei Köpfe')['device']['sharing']
        self.assertEqual((sharing['shared'], sharing['basis']), (True, 'admin'))
        self.storctl('device', 'list', '-o', 'SHARED,BASIS,REASON,AUTHOR', out=['yes', 'admin', 'zwei Köpfe', 'root'])
        self.storctl('device', 'share', name, 'true', '-r', 'two\nlines', code=2, err='reason')
        self.storctl('device', 'share', name, 'auto', out='shared ' + str(device['sharing']['shared']).lower())

    def test_others_may_read_only(self):
        as_nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', STORCTL, '--run-dir', self.host.run_dir]
        os.chmod(self.folder, 0o711)
        for words, code in ((['device', 'rescan'], 4), (['status'], 0), (['node', 'create', 'a', '-d', '/etc/passwd', '-n'], 4)):
            done = subprocess.run([*as_nobody, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS)
            if 'failed to execute' in done.stderr:
                self.skipTest('the build folder is closed to others')
            self.assertEqual(done.returncode, code, f'{words} by somebody else: {done.stdout}{done.stderr}')

    def test_nodes(self):
        image = self.image(size=64 * MIB)
        self.storctl('node', 'create', 'web1', '-d', image, '--dry-run', out='nothing created')
        self.assertEqual(self.document('node', 'list')['nodes'], [])
        created = self.document('node', 'create', 'web1', '-d', './image', cwd=self.folder)['node']
        self.assertEqual((created['state'], created['backing']['size_bytes']), ('serving', 64 * MIB))
        path = self.document('node', 'show', 'web1')['consumers'][0]['path']
        self.assertEqual(path, f'{self.host.run_dir}/block/web1')
        self.storctl('node', 'show', 'web1', out=['serving', f'-drive file={path}', "<disk type='file'"])
        self.storctl('node', 'list', '-o', 'NAME,STATE,SIZE', out=['web1', 'serving', '64 MiB'])

        self.storctl('node', 'create', 'web1', '-d', image, code=1, err='web1')
        self.storctl('node', 'create', 'web2', '-d', image, code=8, err='web1')
        self.storctl('node', 'create', 'web2', '-d', '/no/such/file', code=5, err='/no/such/file')
        self.storctl('node', 'create', '.web', '-d', image, code=2, err='.web')
        self.storctl('node', 'show', 'web2', code=5, err='web2')

        with open(path, 'r+b', buffering=0) as node, open(image, 'rb') as backing:
            node.write(b'x' * MIB)
            os.fsync(node.fileno())
            self.assertEqual(backing.read(MIB), b'x' * MIB)
            self.check_stat()
            # who has it open is told by the node a moment later
            wait_for(lambda: self.document('node', 'show', 'web1')['node']['openers'], 'the opener is shown')
            openers = self.document('node', 'show', 'web1')['node']['openers']
            self.assertEqual([opener['pid'] for opener in openers], [os.getpid()])
            for words in (['remove', 'web1'], ['remove', 'web1', '--dry-run']):
                self.storctl('node', *words, code=8, err=str(os.getpid()))
            self.assertTrue(self.document('node', 'remove', 'web1', '--dry-run', '--force')['dry_run'])
            self.storctl('node', 'remove', 'web1', '--force', out='removed')
        self.assertEqual(self.storctl('node', 'list', '--no-headings'), '')
        self.storctl('node', 'remove', 'web1', code=5, err='web1')

    def check_stat(self):
        stat = self.document('node', 'stat', 'web1')['stats'][0]
        written = [operation['bytes'] for operation in stat['operations'] if operation['operation'] == 'write']
        self.assertEqual((written, stat['rates']['since_start']), ([MIB], True))
        lines = [json.loads(line) for line in self.storctl('node', 'stat', 'web1', '0.1', '3', '-j').splitlines()]
        for line in lines:
            compare(DOCUMENTS['node stat'], line, 'node stat')
        rates = [line['stats'][0]['rates'] for line in lines]
        self.assertEqual([rate['since_start'] for rate in rates], [True, False, False])
        self.assertEqual({operation['operations'] for operation in rates[2]['operations']}, {0})
        table = self.storctl('node', 'stat', '--no-headings', '-o', 'NAME,W/S,WMIB/S,W-P99,F/S').split()
        self.assertEqual(table[0], 'web1')
        self.assertGreater(float(table[1]), 0)

    def test_loop_device(self):
        """A node's own loop device keeps it from nothing; who uses that does."""
        self.storctl('node', 'create', 'disk', '-d', self.image(size=64 * MIB), '--loop', out='loop:')
        device = self.document('node', 'show', 'disk')['consumers'][1]['path']
        self.storctl('node', 'show', 'disk', out=[f'file={device}', "<disk type='block'"])
        self.storctl('node', 'remove', 'disk', '--dry-run', out='would be removed')
        subprocess.run(['mkfs.ext4', '-q', device], check=True)
        mounted = os.path.join(self.folder, 'mounted')
        os.mkdir(mounted)
        subprocess.run(['mount', device, mounted], check=True)
        try:
            self.storctl('node', 'remove', 'disk', '--dry-run', code=8, err=mounted)
            self.storctl('node', 'remove', 'disk', code=8, err='disk')
        finally:
            subprocess.run(['umount', mounted], check=True)
        self.storctl('node', 'remove', 'disk', out='removed')

    def test_monitor(self):
        """Events come, and the end of stord is exit status 6."""
        image = self.image()
        with subprocess.Popen([STORCTL, '--run-dir', self.host.run_dir, 'monitor', '-j'], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as monitor:
            deadline = time.monotonic() + DEADLINE_SECONDS
            # there is no backlog, and no way to know when the stream has begun: something happens until it is seen
            while not select.select([monitor.stdout], [], [], 0.1)[0]:
                self.assertLess(time.monotonic(), deadline, 'no event')
                self.storctl('node', 'create', 'web1', '-d', image)
                self.storctl('node', 'remove', 'web1')
            event = json.loads(monitor.stdout.readline())
            compare(DOCUMENTS['monitor'], event, 'monitor')
            self.assertTrue(event['event'].startswith('node-'), event)
            self.assertEqual(event['subject'], 'web1')
            if event['detail'] is not None:
                compare(DOCUMENTS['node show']['node'], event['detail'], 'node')
            self.host.stop()
            out, err = monitor.communicate(timeout=DEADLINE_SECONDS)
            self.assertEqual(monitor.returncode, 6, out + err)
            self.assertIn('stord', err)
        self.storctl('status', code=6, err=['systemctl start stord', self.host.run_dir])

    def test_hook(self):
        """What the hook says is what stord says, also when stord is gone."""
        device = self.first_device()
        self.storctl('device', 'share', device['id'], 'true')
        self.host.stop()
        for known in self.host.state_file()['devices']:
            answer = dict(line.split('=', 1) for line in self.storctl('hook', 'udev', known['name']).splitlines())
            self.assertEqual(answer, {'STORCTL_ID': re.sub(r'[^A-Za-z0-9#+.:=@_/-]', '_', known['id']),
                                      'STORCTL_LOCAL': known['locality'],
                                      'STORCTL_SHARED': str(int(known['sharing']['shared']))})
        self.assertEqual(self.storctl('hook', 'udev', 'loop0'), '')


if __name__ == '__main__':
    require('mkfs.ext4', 'setpriv')
    unittest.main()
