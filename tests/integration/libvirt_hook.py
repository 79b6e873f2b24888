#!/usr/bin/env python3
"""'storctl hook libvirt' and the script that libvirt runs, against a stand-in for stord: what is asked at which call, one line
for every refusal, and an end within its time whatever stord or the XML do. Arguments: storctl, the hook script, the folder of
domain XML files."""
import concurrent.futures
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from cli_stand import send, stand

STORCTL, SCRIPT, CORPUS = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), pathlib.Path(sys.argv[3])
DEADLINE_SECONDS = 30
PATIENCE_SECONDS = 5 + 3    # the hook's own, and a busy machine's
ARBITER = 'io.storctl.Arbiter.'
HELD = {'target': '0000:00:14.0/2.1', 'description': '046d:c31c Logitech\nKeyboard', 'holder': 'vm:web1',
        'since': '2026-11-22T12:00:00Z', 'reason': ''}
REFUSED = ('error', ARBITER + 'Refused', {'message': 'denied', 'blockers': [HELD]})
OPERATIONS = ['prepare begin', 'start begin', 'started begin', 'stopped end', 'release end', 'reconnect begin', 'attach begin',
              'migrate begin', 'restore begin', 'update begin', 'anything at-all']
MAY_FAIL = {'prepare begin', 'start begin'}
USB = "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/></source></hostdev>"
PCI = ("<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0' slot='0x14' function='0'/></source>"
       "</hostdev>")
USB_TARGET = {'bus': 'usb', 'what': '/dev/bus/usb/001/004'}
PCI_TARGET = {'bus': 'pci', 'what': '0000:00:14.0'}


def domain(devices, name='web2'):
    return f'<domain><name>{name}</name><devices>{devices}</devices></domain>'.encode()


def claim(number, holder='vm:web2', state='provisional', origin='libvirt'):
    return {'id': number, 'holder': holder, 'state': state, 'origin': origin}


def hook(run_dir, operation, xml, guest='web2', script=None):
    command = [script] if script else [STORCTL, '--run-dir', str(run_dir), 'hook', 'libvirt', '--']
    started = time.monotonic()
    done = subprocess.run([*command, guest, *operation.split(), '-'], input=xml, capture_output=True, timeout=DEADLINE_SECONDS,
                          env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'}, check=False)
    done.seconds = time.monotonic() - started
    assert done.stdout == b'', f'{operation}: {done.stdout!r} would be taken for XML'
    assert done.returncode in (0, 1), f'{operation}: exit {done.returncode}: {done.stderr!r}'
    if done.returncode == 1:
        assert operation in MAY_FAIL, f'{operation} must not fail: {done.stderr!r}'
        assert done.stderr.count(b'\n') == 1 and done.stderr.startswith(b'storctl: '), done.stderr
    return done


def expect(done, code, *parts):
    said = done.stderr.decode()
    assert done.returncode == code, f'exit {done.returncode}, expected {code}: {said}'
    for part in parts:
        assert part in said, f'{part!r} is not in {said!r}'


def sent(server):
    out = [(call['method'].removeprefix(ARBITER), call['parameters']) for call in server.calls]
    server.calls.clear()
    return out


def request(targets, **more):
    return {'targets': targets, 'holder': 'vm:web2', 'keep_drivers': True, 'origin': 'libvirt', **more}


def test_what_is_asked():
    answers = {ARBITER + 'Claim': {'claims': [claim(1), claim(2)], 'warnings': []}, ARBITER + 'Claims': {'claims': [claim(1), claim(2)]},
               ARBITER + 'Confirm': {'claims': [claim(1), claim(2)]}, ARBITER + 'Release': {'released': []}}
    both = [USB_TARGET, PCI_TARGET]
    with stand(answers) as server:
        for operation, calls in {
                'prepare begin': [('Claim', request(both, provisional=True))],
                'start begin': [('Claim', request(both, provisional=True)), ('Claims', {})],
                'started begin': [('Confirm', {'holder': 'vm:web2', 'origin': 'libvirt'})],
                'release end': [('Release', {'holder': 'vm:web2', 'origin': 'libvirt'})],
                'reconnect begin': [('Claim', request(both, adopt=True))],
                'attach begin': [('Claim', request(both, adopt=True))],
                'stopped end': [], 'migrate begin': [], 'restore begin': [], 'anything at-all': []}.items():
            done = hook(server.run_dir, operation, domain(USB + PCI))
            expect(done, 0)
            assert done.stderr == b'', done.stderr
            calls_made = sent(server)
            assert calls_made == calls, f'{operation}: {calls_made}'
        for operation in OPERATIONS:
            expect(hook(server.run_dir, operation, domain('')), 0)
            assert [name for name, _ in sent(server)] == (['Release'] if operation == 'release end' else []), operation


def test_start_gives_back_what_was_not_taken():
    with stand({ARBITER + 'Claim': {'claims': [claim(7)], 'warnings': []}, ARBITER + 'Release': {'released': []},
                ARBITER + 'Claims': {'claims': [claim(5), claim(6, holder='vm:web1'), claim(7), claim(8, state='active'),
                                                claim(9, origin='admin')]}}) as server:
        expect(hook(server.run_dir, 'start begin', domain(USB)), 0)
        assert sent(server)[-1] == ('Release', {'targets': [{'bus': 'usb', 'what': '#5'}], 'holder': 'vm:web2'})
        missing = USB.replace('<source>', "<source startupPolicy='optional' missing='yes'>")
        expect(hook(server.run_dir, 'start begin', domain(missing)), 0)
        assert [name for name, _ in sent(server)] == ['Claims', 'Release']


def test_started_late():
    """Whoever started for longer than a provisional claim lasts gets it again."""
    with stand({ARBITER + 'Confirm': {'claims': []}, ARBITER + 'Claim': {'claims': [claim(1)], 'warnings': []}}) as server:
        expect(hook(server.run_dir, 'started begin', domain(USB)), 0)
        assert sent(server)[1:] == [('Claim', request([USB_TARGET], adopt=True))]


def test_refusals():
    with stand({ARBITER + 'Claim': REFUSED}) as server:
        for operation in ('prepare begin', 'start begin'):
            expect(hook(server.run_dir, operation, domain(USB)), 1, 'vm:web2 may not have USB device /dev/bus/usb/001/004 (hostdev 1)',
                   'held by vm:web1 since 2026-11-22T12:00:00Z', 'storctl usb explain /dev/bus/usb/001/004 --for vm:web2')
        done = hook(server.run_dir, 'reconnect begin', domain(USB))
        expect(done, 0, 'unregistered', 'held by vm:web1')

    answers = {ARBITER + 'Claim': REFUSED}
    with stand(answers) as server:
        answers[ARBITER + 'Explain'] = {'granted': False, 'why': '', 'kind': 'device', 'target': '', 'description': '',
                                        'blockers': [dict(HELD, holder='host', reason='mounted on /srv')], 'claims': []}
        expect(hook(server.run_dir, 'prepare begin', domain(USB + PCI)), 1, 'USB device /dev/bus/usb/001/004 (hostdev 1)',
               'mounted on /srv')
    for error, parameters, part in [
            ('NotFound', {'what': '/dev/bus/usb/001/004'}, "startupPolicy='optional'"),
            ('Ambiguous', {'what': '/dev/bus/usb/001/004', 'candidates': ['1-1', '1-2']}, 'more than one device: 1-1, 1-2'),
            ('Failed', {'message': 'cannot unbind'}, 'cannot unbind'),
            ('InvalidValue', {'parameter': 'holder', 'value': 'x', 'message': 'too long'}, 'too long')]:
        with stand({ARBITER + 'Claim': ('error', ARBITER + error, parameters)}) as server:
            expect(hook(server.run_dir, 'prepare begin', domain(USB)), 1, part)
            expect(hook(server.run_dir, 'reconnect begin', domain(USB)), 0, 'unregistered')


def test_hub():
    """A hub can be claimed, and cannot be passed through: what was claimed is given back."""
    hub = dict(claim(3), kind='hub', target='0000:00:14.0/2', description='05e3:0610 Hub')
    with stand({ARBITER + 'Claim': {'claims': [claim(2), hub], 'warnings': []}, ARBITER + 'Claims': {'claims': [claim(2), hub]},
                ARBITER + 'Release': {'released': []}}) as server:
        expect(hook(server.run_dir, 'prepare begin', domain(USB)), 1, 'a hub cannot be passed through',
               'storctl usb claim 0000:00:14.0/2 --for vm:web2')
        assert sent(server)[-1] == ('Release', {'targets': [{'bus': 'usb', 'what': '#2'}, {'bus': 'usb', 'what': '#3'}],
                                                'holder': 'vm:web2'})


def test_adoption_is_one_by_one_where_it_must():
    def only_usb(call, connection):
        granted = call['parameters']['targets'] == [USB_TARGET]
        send(connection, {'parameters': {'claims': [claim(1)], 'warnings': []}} if granted else
             {'error': REFUSED[1], 'parameters': REFUSED[2]})
    with stand({ARBITER + 'Claim': only_usb}) as server:
        expect(hook(server.run_dir, 'reconnect begin', domain(PCI + USB)), 0, '0000:00:14.0 unregistered')
        assert [parameters['targets'] for _, parameters in sent(server)] == [[PCI_TARGET, USB_TARGET], [PCI_TARGET], [USB_TARGET]]


def test_nobody_there():
    for operation in OPERATIONS:
        done = hook('/nonexistent', operation, domain(USB))
        expect(done, 1 if operation == 'prepare begin' else 0)
        if operation in ('prepare begin', 'start begin', 'reconnect begin'):
            expect(done, done.returncode, 'systemctl start stord', '50-storctl', "domain 'web2' wants USB device")
        expect(hook('/nonexistent', operation, domain('')), 0)


def test_stord_hangs():
    with stand({ARBITER + name: lambda *_: None for name in ('Claim', 'Confirm', 'Release', 'Claims')}) as server:
        operations = ['prepare begin', 'start begin', 'started begin', 'release end', 'reconnect begin', 'attach begin']
        with concurrent.futures.ThreadPoolExecutor(len(operations)) as pool:
            ended = list(pool.map(lambda operation: hook(server.run_dir, operation, domain(USB)), operations))
        for operation, done in zip(operations, ended):
            expect(done, 1 if operation == 'prepare begin' else 0, 'does not answer')
            assert done.seconds < PATIENCE_SECONDS, f'{operation}: {done.seconds:.1f} s'
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = folder + '/io.storctl'
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        full = stack.enter_context(socket.socket(socket.AF_UNIX))   # the one connection that waits to be accepted
        full.connect(path)
        done = hook(folder, 'prepare begin', domain(USB))
        expect(done, 1)
        assert done.seconds < PATIENCE_SECONDS, done.seconds


def test_xml_that_is_none():
    for name, text, part in [
            ('nothing', b'', 'not well formed at byte 0'), ('garbage', os.urandom(100000), ''), ('cut', domain(USB)[:-30], 'at byte'),
            ('another domain', domain(USB, 'other'), "is of 'other', not of 'web2'"),
            ('too much', domain('<!--' + 'x' * (4 << 20) + '-->'), 'more than 4194304 bytes'),
            ('too deep', domain('<a>' * 100000 + '</a>' * 100000), 'nested deeper'),
            ('questions', domain("<hostdev mode='subsystem' type='usb'><source/></hostdev>" * 2),
             "domain 'web2': hostdev 1: names no device: it has neither an <address> nor <vendor> and <product>; hostdev 2: names no device")]:
        for operation in OPERATIONS:
            done = hook('/nonexistent', operation, text)
            assert done.seconds < PATIENCE_SECONDS, f'{name}, {operation}: {done.seconds:.1f} s'
            expect(done, 1 if operation == 'prepare begin' else 0)
            if operation == 'prepare begin':
                expect(done, 1, part)


def test_entities_do_nothing():
    with tempfile.TemporaryDirectory() as folder:
        secret = pathlib.Path(folder, 'secret')
        secret.write_text('web2')
        text = f'<!DOCTYPE domain [<!ENTITY s SYSTEM "file://{secret}">]><domain><name>&s;</name><devices/></domain>'.encode()
        expect(hook('/nonexistent', 'prepare begin', text), 1, "is of '&s;', not of 'web2'")
    levels = ''.join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE domain [<!ENTITY e0 "boom">{levels}]><domain><name>web2</name><uuid>&e11;</uuid></domain>'.encode()
    done = hook('/nonexistent', 'prepare begin', bomb)
    expect(done, 0)
    assert done.seconds < PATIENCE_SECONDS, done.seconds


def test_input_that_never_ends():
    with contextlib.ExitStack() as stack:
        processes = {operation: stack.enter_context(subprocess.Popen(
            [STORCTL, '--run-dir', '/nonexistent', 'hook', 'libvirt', '--', 'web2', *operation.split(), '-'], bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)) for operation in OPERATIONS}
        started = time.monotonic()
        for process in processes.values():
            with contextlib.suppress(BrokenPipeError):  # those that need no XML end at once
                process.stdin.write(domain(USB)[:50])
        for operation, process in processes.items():
            code = process.wait(DEADLINE_SECONDS)
            assert code == (1 if operation == 'prepare begin' else 0), f'{operation}: {code}'
        assert time.monotonic() - started < PATIENCE_SECONDS
        assert b'did not end within 5 s' in processes['prepare begin'].stderr.read()


def test_corpus():
    """Every file at every call: an exit status of libvirt's, and never a crash."""
    for path in sorted(CORPUS.iterdir()):
        for operation in OPERATIONS:
            hook('/nonexistent', operation, path.read_bytes(), guest='web2')


def test_links():
    """A name that a udev rule gave a node is that node; a link to one of ours is ours."""
    if os.geteuid() != 0:
        return 'skipped: needs root'
    argument = "<qemu:arg value='-device'/><qemu:arg value='usb-host,hostdevice={}'/>"
    frame = "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web2</name><qemu:commandline>{}</qemu:commandline></domain>"
    with stand({ARBITER + 'Claim': {'claims': [claim(1)], 'warnings': []}}) as server:
        link, node = pathlib.Path(server.run_dir, 'dongle'), pathlib.Path(server.run_dir, 'node')
        node.touch()
        link.symlink_to(node)
        expect(hook(server.run_dir, 'prepare begin', frame.format(argument.format(link)).encode()), 0)
        assert sent(server)[0][1]['targets'] == [{'bus': 'usb', 'what': str(node.resolve())}]


def test_script():
    text = pathlib.Path(SCRIPT).read_text()
    with tempfile.TemporaryDirectory() as folder:
        script, program = pathlib.Path(folder, '50-storctl'), pathlib.Path(folder, 'storctl')
        where = next(line.split('=', 1)[1] for line in text.splitlines() if line.startswith('storctl='))
        script.write_text(text.replace(where, str(program)))
        script.chmod(0o755)
        expect(hook(folder, 'prepare begin', domain(USB), script=str(script)), 0)     # storctl is not installed
        program.write_text(f'#!/bin/sh\nexec {STORCTL} --run-dir /nonexistent "$@"\n')
        program.chmod(0o755)
        for guest in ('web2', '--help', '-', 'a b', '$(reboot)', "q'"):
            escaped = guest.replace('&', '&amp;')
            expect(hook(folder, 'prepare begin', domain(USB, escaped), guest=guest, script=str(script)), 1, 'systemctl start stord')
            expect(hook(folder, 'prepare begin', domain('', escaped), guest=guest, script=str(script)), 0)
            expect(hook(folder, 'reconnect begin', domain(USB, escaped), guest=guest, script=str(script)), 0)
        # what a later libvirt may add
        done = subprocess.run([script, 'web2', 'reconnect', 'begin', '-', 'more', 'words'], input=domain(USB), capture_output=True,
                              timeout=DEADLINE_SECONDS, check=False)
        assert done.returncode == 0, done
        # an upgrade gone wrong: it is there and cannot be run, or ends by a signal
        for broken in ('#!/nonexistent/interpreter\n', '#!/bin/sh\nkill -KILL $$\n'):
            program.write_text(broken)
            for operation in OPERATIONS:
                done = subprocess.run([script, 'web2', *operation.split(), '-'], input=domain(USB), capture_output=True,
                                      timeout=DEADLINE_SECONDS, check=False)
                assert (done.returncode != 0) == (operation in MAY_FAIL), (broken, operation, done)
    for words in (['web2', 'reconnect', 'begin', '-', 'more'], ['--nonsense', 'reconnect'], []):
        done = subprocess.run([STORCTL, 'hook', 'libvirt', *words], input=b'', capture_output=True, timeout=DEADLINE_SECONDS, check=False)
        assert done.returncode == 0 and done.stderr, (words, done)
    done = subprocess.run([STORCTL, 'hook', 'libvirt', 'web2', 'prepare', 'begin', '-', 'more'], input=b'', capture_output=True,
                          timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 2, done


def main():
    for name, test in list(globals().items()):
        if name.startswith('test_'):
            started = time.monotonic()
            print(f'{name}: {test() or "good"} ({time.monotonic() - started:.1f} s)')


if __name__ == '__main__':
    main()
