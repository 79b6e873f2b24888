#!/usr/bin/env python3
"""Every verb of storctl against a real stord and real nodes in private folders: text, exit statuses, and every JSON
document against docs/json.md. Arguments: storctl, stord, stor-node, source folder."""
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

STORCTL, STORD, STOR_NODE, SOURCE = (os.path.abspath(path) for path in sys.argv[1:5])
DEADLINE_SECONDS = 30


class Stord:
    """A stord of its own, ready when constructed."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.run_dir = str(self.folder / 'run')
        self.log = self.folder / 'log'
        (self.folder / 'stord.toml').write_text(f'dev_dir = "{folder}/dev"\nnode_program = "{STOR_NODE}"\n')
        self.start()

    def start(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(self.folder / 'notify'))
        notify.settimeout(DEADLINE_SECONDS)
        self.process = subprocess.Popen(
            [STORD, '--config', str(self.folder / 'stord.toml'), '--state-dir', str(self.folder / 'state'), '--run-dir',
             self.run_dir, '--supervisor', 'fork', '--foreground'],
            stderr=self.log.open('a'), env=os.environ | {'NOTIFY_SOCKET': str(self.folder / 'notify')})
        try:
            while b'READY=1' not in notify.recv(4096):
                pass
        except TimeoutError:
            sys.exit(f'FAIL: stord is not ready:\n{self.log.read_text()}')
        finally:
            notify.close()
            os.unlink(self.folder / 'notify')

    def stop(self):
        self.process.terminate()
        assert self.process.wait(DEADLINE_SECONDS) == 0, self.log.read_text()

    def storctl(self, *words, code=0, out=(), err=(), **options):
        environment = {'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': self.run_dir}
        done = subprocess.run([STORCTL, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS * 2,
                              env=environment, stdin=subprocess.DEVNULL, **options)
        shown = f'storctl {" ".join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log.read_text()}'
        assert done.returncode == code, shown
        for text in [out] if isinstance(out, str) else out:
            assert text in done.stdout, f'{text!r} is missing: {shown}'
        for text in [err] if isinstance(err, str) else err:
            assert text in done.stderr, f'{text!r} is missing: {shown}'
        return done.stdout

    def document(self, *words, title=None):
        """A JSON answer, held against docs/json.md."""
        answer = json.loads(self.storctl(*words, '--json'))
        check_document(title or ' '.join(words[:2]), answer)
        return answer


def read_documents():
    """The example of each section of docs/json.md by its title; an empty object stands for a device or node."""
    text = pathlib.Path(SOURCE, 'docs/json.md').read_text()
    out = {}
    for section in re.split(r'^## ', text, flags=re.M)[1:]:
        example = json.loads(re.search(r'```json\n(.*?)```', section, re.S).group(1))
        for name in section.split('\n')[0].split(', '):
            out[name] = json.loads(json.dumps(example))
    device, node = out['device list']['devices'][0], out['node list']['nodes'][0]
    out['device show']['device'] = out['device share']['device'] = device
    out['node show']['node'] = out['node create']['node'] = node
    return out


DOCUMENTS = read_documents()
NULLABLE = {'mean_ns', 'p50_ns', 'p99_ns'}.union(
    *(re.findall(r'(\w+): \?', path.read_text()) for path in pathlib.Path(SOURCE, 'control').glob('*.varlink')))


def check_document(title, answer):
    compare(DOCUMENTS[title], answer, title)


def compare(documented, answer, where):
    if answer is None:
        assert where.split('.')[-1] in NULLABLE, f'{where} is null'
    elif isinstance(answer, dict):
        if documented is not None and where != 'monitor.detail':
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


def check_status(stord):
    text = stord.storctl('status', out=['state:', 'running', stord.run_dir, 'findings:'])
    assert '\x1b' not in text
    status = stord.document('status', title='status')['status']
    assert status['pid'] == stord.process.pid and status['run_dir'] == stord.run_dir, status
    assert stord.document('version', title='version')['release'] == status['version']


def check_devices(stord):
    listed = stord.document('device', 'list')['devices']
    if not listed:
        print('this machine has no disk that stord lists: devices are not tried')
        return
    device = listed[0]
    ids = stord.storctl('device', 'list', '--no-headings', '-o', 'ID').split('\n')[:-1]
    assert ids == [each['id'] for each in listed], ids
    sizes = stord.storctl('device', 'list', '--no-headings', '-b', '-o', 'size').split()
    assert sizes == [str(each['size_bytes']) for each in listed], sizes
    for name in (device['id'], device['name'], device['devnode']):
        assert stord.document('device', 'show', name)['device']['id'] == device['id']
    stord.storctl('device', 'show', device['id'], out=[device['id'], device['sharing']['reason'], 'identifiers:', 'paths:'])
    stord.storctl('device', 'show', 'no-such-device', code=5, err='no-such-device')

    sharing = stord.document('device', 'share', device['id'], 'true', '--dry-run')['device']['sharing']
    assert sharing['shared'] is True and sharing['basis'] == 'admin', sharing
    stord.storctl('device', 'share', device['id'], 'true', '-n', out='would be shared true (admin)')
    assert stord.document('device', 'show', device['id'])['device']['sharing'] == device['sharing'], 'a dry run changed something'
    shared = stord.document('device', 'share', device['id'], 'true', '--reason', 'zwei Köpfe')['device']['sharing']
    assert shared['shared'] is True and shared['basis'] == 'admin' and 'zwei Köpfe' in shared['reason'], shared
    stord.storctl('device', 'list', '-o', 'SHARED,BASIS,REASON,AUTHOR', out=['yes', 'admin', 'zwei Köpfe', 'root'])
    stord.storctl('device', 'share', device['id'], 'true', '-r', 'two\nlines', code=2, err='reason')
    stord.storctl('device', 'share', device['id'], 'auto', out='shared ' + str(device['sharing']['shared']).lower())
    check_document('device rescan', json.loads(stord.storctl('device', 'rescan', '-j')))
    stord.storctl('device', 'rescan', out='removed')


def check_permission(stord):
    """Somebody else may read and not change."""
    as_nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', STORCTL, '--run-dir', stord.run_dir]
    os.chmod(stord.folder, 0o711)
    for words, code in ((['device', 'rescan'], 4), (['status'], 0)):
        done = subprocess.run([*as_nobody, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        if 'failed to execute' in done.stderr:
            print('the build folder is closed to others: what they may do is not tried')
            return
        assert done.returncode == code, f'{words} by somebody else: exit {done.returncode}: {done.stderr}'


def check_nodes(stord):
    image = stord.folder / 'image'
    image.write_bytes(os.urandom(1 << 20))
    os.truncate(image, 64 << 20)
    stord.storctl('node', 'create', 'web1', '-d', str(image), '--dry-run', out='nothing created')
    assert stord.document('node', 'list')['nodes'] == []
    created = json.loads(stord.storctl('node', 'create', 'web1', '-d', './image', '-j', cwd=stord.folder))
    check_document('node create', created)
    assert created['node']['state'] == 'serving' and created['node']['backing']['size_bytes'] == 64 << 20, created
    shown = stord.document('node', 'show', 'web1')
    path = shown['consumers'][0]['path']
    assert path == f'{stord.run_dir}/block/web1', shown
    stord.storctl('node', 'show', 'web1', out=['serving', f'-drive file={path}', "<disk type='file'"])
    stord.storctl('node', 'list', '-o', 'NAME,STATE,SIZE', out=['web1', 'serving', '64 MiB'])

    stord.storctl('node', 'create', 'web1', '-d', str(image), code=1, err='web1')
    stord.storctl('node', 'create', 'web2', '-d', str(image), code=8, err='web1')
    stord.storctl('node', 'create', 'web2', '-d', '/no/such/file', code=5, err='/no/such/file')
    stord.storctl('node', 'create', '.web', '-d', str(image), code=2, err='.web')
    stord.storctl('node', 'show', 'web2', code=5, err='web2')

    with open(path, 'r+b', buffering=0) as node:
        node.write(b'x' * (1 << 20))
        os.fsync(node.fileno())
        with open(image, 'rb') as backing:
            assert backing.read(1 << 20) == b'x' * (1 << 20)
        openers = stord.document('node', 'show', 'web1')['node']['openers']
        assert [opener['pid'] for opener in openers] == [os.getpid()], openers
        for words in (['remove', 'web1'], ['remove', 'web1', '--dry-run']):
            stord.storctl('node', *words, code=8, err=str(os.getpid()))
        check_stat(stord)
        assert stord.document('node', 'remove', 'web1', '--dry-run', '--force')['dry_run'] is True
        stord.storctl('node', 'remove', 'web1', '--force', out='removed')
    assert stord.storctl('node', 'list', '--no-headings') == ''
    stord.storctl('node', 'remove', 'web1', code=5, err='web1')


def check_stat(stord):
    stat = stord.document('node', 'stat', 'web1')['stats'][0]
    written = [operation for operation in stat['operations'] if operation['operation'] == 'write'][0]
    assert written['bytes'] == 1 << 20 and stat['rates']['since_start'] is True, stat
    lines = [json.loads(line) for line in stord.storctl('node', 'stat', 'web1', '0.1', '3', '-j').splitlines()]
    for line in lines:
        check_document('node stat', line)
    assert [line['stats'][0]['rates']['since_start'] for line in lines] == [True, False, False], lines
    idle = [rate['operations'] for rate in lines[2]['stats'][0]['rates']['operations']]
    assert set(idle) == {0}, lines[2]
    table = stord.storctl('node', 'stat', '--no-headings', '-o', 'NAME,W/S,WMIB/S,W-P99,F/S').split()
    assert table[0] == 'web1' and float(table[1]) > 0, table


def check_monitor(stord):
    """Events come, and the end of stord is exit status 6."""
    watched = stord.document('device', 'list')['devices']
    with subprocess.Popen([STORCTL, '--run-dir', stord.run_dir, 'monitor', '-j'], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as monitor:
        deadline, value, seen = time.monotonic() + DEADLINE_SECONDS, 'true', False
        # there is no backlog, and no way to know when the stream has begun: something happens until it is seen
        while watched and not seen:
            assert time.monotonic() < deadline, 'no event'
            stord.storctl('device', 'share', watched[0]['id'], value)
            value = 'false' if value == 'true' else 'true'
            seen = bool(select.select([monitor.stdout], [], [], 0.1)[0])
        if watched:
            event = json.loads(monitor.stdout.readline())
            check_document('monitor', event)
            assert event['event'] == 'device-changed' and event['subject'] == watched[0]['id'], event
            check_document('device show', {'version': 1, 'device': event['detail']})
        stord.stop()
        out, err = monitor.communicate(timeout=DEADLINE_SECONDS)
        assert monitor.returncode == 6, f'exit {monitor.returncode}: {out}{err}'
        assert 'stord' in err, err
    stord.storctl('status', code=6, err=['systemctl start stord', stord.run_dir])


def check_hook(stord):
    """What the hook says is what stord says, also when stord is gone."""
    state = json.loads(pathlib.Path(stord.run_dir, 'state.json').read_text())
    for device in state['devices']:
        answer = dict(line.split('=', 1) for line in stord.storctl('hook', 'udev', device['name']).splitlines())
        assert answer == {'STORCTL_ID': re.sub(r'[^A-Za-z0-9#+.:=@_/-]', '_', device['id']), 'STORCTL_LOCAL': device['locality'],
                          'STORCTL_SHARED': str(int(device['sharing']['shared']))}, (answer, device)
    assert stord.storctl('hook', 'udev', 'loop0') == ''


def main():
    if os.geteuid() != 0 or not os.path.exists('/dev/fuse'):
        print('skipped: nodes want root and /dev/fuse')
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        stord = Stord(folder)
        try:
            for check in (check_status, check_devices, check_permission, check_nodes, check_monitor, check_hook):
                check(stord)
                print(f'{check.__name__}: good')
        finally:
            with contextlib.suppress(Exception):
                if stord.process.poll() is not None:
                    stord.start()
                for name in stord.storctl('node', 'list', '--no-headings', '-o', 'NAME').split():
                    stord.storctl('node', 'remove', '--force', name)
            stord.process.send_signal(signal.SIGTERM)
            stord.process.wait(DEADLINE_SECONDS)


if __name__ == '__main__':
    main()
