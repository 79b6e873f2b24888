#!/usr/bin/env python3
"""storctl usb and pci against a stand-in for stord: every error of io.storctl.Arbiter and its exit status, what is sent, what is
shown, hostile strings. Argument: storctl."""
import json
import subprocess
import threading

from cli_stand import DEADLINE_SECONDS, STORCTL, expect, on_terminal, run_tests, send, stand, storctl

ARBITER = 'io.storctl.Arbiter.'
CLAIM = {'id': 12, 'kind': 'device', 'target': '0000:00:14.0/2.1', 'description': '0781:5581 SanDisk Ultra', 'holder': 'vm:web1',
         'state': 'active', 'since': '2026-11-22T12:00:00Z', 'deadline': None, 'covered': False, 'origin': 'admin',
         'reason': 'licence dongle', 'counted': ['0000:00:14.0/2', '0000:00:14.0'], 'keep_drivers': False, 'phase': 'done',
         'message': ''}
OBSERVED = {**CLAIM, 'id': None, 'target': '0000:00:14.0/4', 'description': '046d:c31c Logitech Keyboard', 'holder': 'host',
            'origin': 'observed', 'phase': 'none'}
LOST = {**CLAIM, 'id': 13, 'kind': 'controller', 'target': '0000:03:00.0', 'state': 'lost', 'deadline': '2026-11-22T12:00:30Z',
        'phase': 'failed', 'message': 'vfio-pci: Device or resource busy', 'keep_drivers': True}
BLOCKER = {'target': '0000:00:14.0/2.1', 'description': '0781:5581 SanDisk Ultra\x1b[2J', 'holder': 'vm:web1',
           'since': '2026-11-22T12:00:00Z', 'reason': 'licence dongle'}
GROUP_BLOCKER = {'target': '0000:00:14.2', 'description': 'RAM memory 8086:a36f', 'holder': None, 'since': None,
                 'reason': 'is in IOMMU group 4 and has the driver intel_sram'}
DEVICE = {'socket': '0000:00:14.0/2.1', 'half': 'usb2', 'kernel_name': '1-2.1', 'bus': 1, 'address': 4,
          'devnode': '/dev/bus/usb/001/004', 'parent': '0000:00:14.0/2', 'vendor_id': '0781', 'product_id': '5581',
          'vendor': 'SanDisk', 'product': 'SanDisk Ultra 日立\x1b]0;x\x07', 'serial': 'S1', 'device_class': 0, 'speed_mbps': '480',
          'hub': False, 'ports': 0, 'in_use': 0, 'present': True,
          'interfaces': [{'number': 0, 'class': 8, 'subclass': 6, 'protocol': 80, 'driver': 'usb-storage'}],
          'holder': 'host', 'claim': None, 'uses': [{'kind': 'mount', 'text': 'mounted on /srv (sda1)', 'pid': None}]}
CONTROLLER = {'path': '0000:00:14.0', 'pci': True, 'kind': 'usb', 'class': '0c0330', 'vendor_id': '8086', 'device_id': 'a36d',
              'description': 'USB controller 8086:a36d Intel', 'driver': 'xhci_hcd', 'in_use': 2, 'group': 4,
              'group_functions': ['0000:00:14.2'], 'companions': [], 'buses': [{'half': 'usb2', 'number': 1, 'in_use': 2}],
              'holder': None, 'claim': None, 'state': None, 'uses': []}
BRIDGE = {**CONTROLLER, 'path': '0000:00:1f.0', 'kind': 'other', 'buses': [], 'group': None, 'in_use': 0}
PLATFORM = {**CONTROLLER, 'path': 'platform/xhci-hcd.0', 'pci': False}
INVENTORY = {'controllers': [CONTROLLER, BRIDGE, PLATFORM], 'devices': [DEVICE], 'claims': [CLAIM, OBSERVED]}

RULE = {'id': 3, 'socket': '0000:00:14.0/3', 'vendor_id': '046d', 'product_id': 'c31c', 'serial': None, 'device_class': 11,
        'holder': 'vm:bank', 'created': '2026-11-22T12:00:00Z', 'created_by': 'root (uid 0)'}
EXPLAINED = {'granted': False, 'why': 'vm:web1 has it', 'kind': 'device', 'target': '0000:00:14.0/2.1',
             'description': '0781:5581 SanDisk Ultra', 'blockers': [BLOCKER], 'claims': []}

CLAIM_WORDS = 'usb claim 1-2.1 --for vm:b'
ERRORS = [
    # method, words, error, parameters, exit status, what the message holds
    ('Claim', CLAIM_WORDS, ARBITER + 'NotFound', {'what': '1-2.1'}, 5, ["'1-2.1'", 'usb list']),
    ('Claim', CLAIM_WORDS, ARBITER + 'NotFound', {'what': '1-2.1', 'message': "'1-2.1': no USB device here is called so"}, 5,
     ["storctl: '1-2.1': no USB device here is called so; 'storctl usb list'"]),
    ('Claim', CLAIM_WORDS, ARBITER + 'Ambiguous', {'what': '0781:5581', 'candidates': ['1-2.1', '1-2.2']}, 7,
     ["'0781:5581'", '1-2.1\n', '1-2.2\n']),
    ('Claim', CLAIM_WORDS, ARBITER + 'InvalidValue', {'parameter': 'holder', 'value': 'b', 'message': 'is no holder'}, 2,
     ["holder 'b'", 'is no holder']),
    ('Claim', CLAIM_WORDS, ARBITER + 'Refused', {'message': '1-2.1 is not free', 'blockers': [BLOCKER, GROUP_BLOCKER]}, 8,
     ['1-2.1 is not free:\n',
      '  0000:00:14.0/2.1 (0781:5581 SanDisk Ultra\\x1b[2J) is held by vm:web1 since 2026-11-22T12:00:00Z (licence dongle)\n',
      '  0000:00:14.2 (RAM memory 8086:a36f): is in IOMMU group 4 and has the driver intel_sram\n']),
    ('Claim', CLAIM_WORDS, ARBITER + 'Failed', {'message': 'usb-storage did not let go'}, 1, ['usb-storage did not let go']),
    ('Claim', CLAIM_WORDS, 'org.varlink.service.PermissionDenied', {}, 4, ['not permitted']),
    ('Claim', 'pci claim 00:14.0 --for vm:b', ARBITER + 'Refused', {'message': 'in use', 'blockers': [GROUP_BLOCKER]}, 8,
     ['in use:\n', '0000:00:14.2']),
    ('Claim', 'pci claim 00:14.0 --for vm:b', ARBITER + 'Failed', {'message': 'vfio-pci is not there'}, 1, ['vfio-pci']),
    ('Release', 'usb release 1-2.1', ARBITER + 'NotFound', {'what': '1-2.1'}, 5, ["'1-2.1'", 'usb claims']),
    ('Release', 'usb release 1-2.1', ARBITER + 'Refused', {'message': "it is vm:a's", 'blockers': []}, 8, ["it is vm:a's"]),
    ('Release', 'pci release 00:14.0', ARBITER + 'Failed', {'message': 'the driver did not return'}, 1, ['did not return']),
    ('Inventory', 'usb list', 'io.storctl.InternalError', {'message': 'full'}, 1, ['full']),
    ('Inventory', 'pci list', 'org.varlink.service.InterfaceNotFound', {'interface': 'io.storctl.Arbiter'}, 1,
     ['io.storctl.Arbiter', 'older than storctl']),
    ('Inventory', 'usb tree', 'org.varlink.service.MethodNotFound', {'method': 'io.storctl.Arbiter.Inventory'}, 1, ['older']),
    ('Explain', 'usb explain 1-9', ARBITER + 'NotFound', {'what': '1-9'}, 5, ["no '1-9'; 'storctl usb list'"]),
    ('Explain', 'usb explain 0781:5581', ARBITER + 'Ambiguous', {'what': '0781:5581', 'candidates': ['1-1', '1-2']}, 7, ['1-1\n', '1-2\n']),
    ('Explain', 'pci explain x', ARBITER + 'InvalidValue', {'parameter': 'what', 'value': 'x', 'message': 'no PCI address'}, 2,
     ["storctl: what 'x': no PCI address\n"]),
    ('AddRule', 'usb rule add --class hid --for b', ARBITER + 'InvalidValue',
     {'parameter': 'holder', 'value': 'b', 'message': 'is no holder'}, 2, ['is no holder']),
    ('AddRule', 'usb rule add --class hid --for vm:b', 'org.varlink.service.PermissionDenied', {}, 4, ['not permitted']),
    ('ListRules', 'usb rule list', 'io.storctl.InternalError', {'message': 'full'}, 1, ['full']),
    ('RemoveRule', 'usb rule remove 7', ARBITER + 'RuleNotFound', {'id': 7}, 5, ['no rule 7', 'rule list']),
    ('Claims', 'usb claims', 'io.storctl.InternalError', {'message': 'full'}, 1, ['full']),
]


def test_errors():
    for method, words, name, parameters, code, texts in ERRORS:
        with stand({ARBITER + method: ('error', name, parameters)}) as server:
            for more in ([], ['--json']):
                done = expect(storctl(server, *words.split(), *more), code, err=texts)
                assert done.stdout == '', f'{words}: an error writes {done.stdout!r} to standard output'
                assert '\x1b' not in done.stderr, done.stderr


def test_refusal_leads_to_explain():
    with stand({ARBITER + 'Claim': ('error', ARBITER + 'Refused', {'message': 'no', 'blockers': [BLOCKER]})}) as server:
        expect(storctl(server, 'usb', 'claim', '1-2.1', '1-3', '--for', 'vm:my machine'), 8,
               err=["storctl usb explain 1-2.1 --for 'vm:my machine'\n", "storctl usb explain 1-3 --for 'vm:my machine'\n"])
        expect(storctl(server, 'pci', 'claim', '00:14.0', '--for', 'host'), 8, err='storctl pci explain 00:14.0 --for host\n')


def test_usage():
    for words, text in [('usb', 'tree, list, claims, claim, release, explain, rule'), ('usb claim 1-2', '--for'), ('usb claim --for host', 'WHAT'),
                        ('usb release', '--all'), ('usb release --all', '--for'), ('usb release 1-2 --all --for host', 'not both'),
                        ('usb release 1-2 --keep-off --give-back', 'not both'), ('pci release 00:14.0 --force', '--force'),
                        ('usb list x', 'x'), ('pci claim 00:14.0', '--for'), ('usb claims -o NOPE', 'HOLDER'),
                        ('usb explain', 'WHAT'), ('usb explain 1-2 1-3', '1-3'), ('usb rule', 'add, list, remove'),
                        ('usb rule add --class hid', '--for'), ('usb rule add --for vm:a', '--socket'),
                        ('usb rule add --for vm:a --class hat', 'storage'), ('usb rule add --for vm:a --device 46d', 'VID:PID'),
                        ('usb rule add --for vm:a -d 046d:', 'VID:PID'), ('usb rule add --for vm:a -d 046d:c31c:', 'VID:PID'),
                        ('usb rule remove', 'ID'), ('usb rule remove x', "'x'"), ('usb rule remove -1', '-1')]:
        with stand({}) as server:
            done = expect(storctl(server, *words.split()), 2, err=text)
            assert done.stdout == '' and server.calls == [], (done, server.calls)


def test_parameters():
    """What is sent is what was asked for."""
    with stand({ARBITER + 'Claim': {'claims': [CLAIM], 'warnings': []}, ARBITER + 'Release': {'released': [CLAIM]},
                ARBITER + 'AddRule': {'rule': RULE}, ARBITER + 'RemoveRule': {}}) as server:
        def sent(words):
            server.calls.clear()
            expect(storctl(server, *words.split()), 0)
            return server.calls[-1]['parameters']
        usb = [{'bus': 'usb', 'what': '1-2.1'}, {'bus': 'usb', 'what': '046d:c31c'}]
        pci = [{'bus': 'pci', 'what': '00:14.0'}]
        assert sent('usb claim 1-2.1 046d:c31c --for vm:a') == {'targets': usb, 'holder': 'vm:a', 'dry_run': False}
        assert sent('usb claim 1-2.1 -n --keep-drivers -r why --for host 046d:c31c') == {
            'targets': usb, 'holder': 'host', 'dry_run': True, 'keep_drivers': True, 'reason': 'why'}
        assert sent('pci claim 00:14.0 --group --for vm:a') == {'targets': pci, 'holder': 'vm:a', 'dry_run': False, 'group': True}
        assert sent('usb release 1-2.1 046d:c31c') == {'targets': usb}
        assert sent('usb release #12') == {'targets': [{'bus': 'usb', 'what': '#12'}]}
        assert sent('usb release --all --for vm:a --keep-off') == {'holder': 'vm:a', 'keep_off': True}
        assert sent('usb release 1-2.1 046d:c31c --give-back') == {'targets': usb, 'keep_off': False}
        assert sent('pci release 00:14.0 -n') == {'targets': pci, 'dry_run': True}
        assert sent('pci release 00:14.0 --for vm:a') == {'targets': pci, 'holder': 'vm:a'}
        assert sent('usb rule add --for vm:a --device 046D:C31c --serial S --socket 0000:00:14.0/3 --class smartcard') == {
            'holder': 'vm:a', 'vendor_id': '046d', 'product_id': 'c31c', 'serial': 'S', 'socket': '0000:00:14.0/3', 'device_class': 11}
        assert sent('usb rule add --for vm:a -d 046d') == {'holder': 'vm:a', 'vendor_id': '046d'}
        assert sent('usb rule remove 3') == {'id': 3}


def test_explain():
    mount = {**BLOCKER, 'holder': 'host', 'reason': 'mounted on /srv (sda1)'}
    with stand({ARBITER + 'Explain': {**EXPLAINED, 'blockers': [BLOCKER, mount]}, ARBITER + 'Inventory': INVENTORY}) as server:
        done = expect(storctl(server, 'usb', 'explain', '1-2.1', '--for', 'vm:b'), 8)
        assert done.stderr == '' and done.stdout == (
            'target:     device 0000:00:14.0/2.1 (0781:5581 SanDisk Ultra)\n'
            'verdict:    refused\n'
            'why:        vm:web1 has it\n'
            'in the way: 0000:00:14.0/2.1 (0781:5581 SanDisk Ultra\\x1b[2J) is held by vm:web1 since 2026-11-22T12:00:00Z (licence dongle)\n'
            '            0000:00:14.0/2.1 (0781:5581 SanDisk Ultra\\x1b[2J) is held by host since 2026-11-22T12:00:00Z '
            '(mounted on /srv (sda1))\n'
            'what to do: storctl usb release 0000:00:14.0/2.1 --for vm:web1\n'
            '            umount /srv\n'
            '            storctl usb claim 1-2.1 --for vm:b\n'), done.stdout
        assert server.calls[0]['parameters'] == {'target': {'bus': 'usb', 'what': '1-2.1'}, 'holder': 'vm:b'}, server.calls
        document = json.loads(expect(storctl(server, 'usb', 'explain', '1-2.1', '-j'), 8).stdout)
        assert document == {'version': 1, **EXPLAINED, 'blockers': [BLOCKER, mount], 'next': [
            'storctl usb release 0000:00:14.0/2.1 --for vm:web1', 'umount /srv', 'storctl usb claim 1-2.1 --for vm:NAME']}, document
    granted = {**EXPLAINED, 'granted': True, 'why': 'nothing is in the way', 'blockers': []}
    with stand({ARBITER + 'Explain': granted, ARBITER + 'Inventory': ('error', 'io.storctl.InternalError', {})}) as server:
        done = expect(storctl(server, 'pci', 'explain', '00:14.0', '--for', 'vm:b'), 0,
                      out=['verdict:    granted\n', 'storctl pci claim 00:14.0 --for vm:b\n'])
        assert done.stderr == '', done.stderr
        assert server.calls[0]['parameters'] == {'target': {'bus': 'pci', 'what': '00:14.0'}, 'holder': 'vm:b'}, server.calls


def test_tree():
    with stand({ARBITER + 'Inventory': INVENTORY}) as server:
        plain = expect(storctl(server, 'usb', 'tree'), 0).stdout
        assert plain.splitlines()[2].startswith('`- 1-2.1  0781:5581  SanDisk Ultra'), plain
        boxes = expect(storctl(server, 'usb', 'tree', env={'LC_ALL': 'C.UTF-8'}), 0).stdout
        assert boxes == plain.replace('`- ', '\u2514\u2500 '), boxes
        assert '\x1b' not in plain
        assert expect(storctl(server, 'usb', 'tree', env={'LC_ALL': 'xx_XX.UTF-8'}), 0).stdout == plain
        coloured = expect(storctl(server, 'usb', 'tree', '--color=always'), 0).stdout
        assert coloured.startswith('\x1b[1mDEVICE'), coloured
        document = json.loads(expect(storctl(server, 'usb', 'tree', '-j'), 0).stdout)
        assert document == {'version': 1, 'controllers': [CONTROLLER, PLATFORM], 'devices': [DEVICE], 'claims': [CLAIM, OBSERVED]}


def test_terminal():
    """A narrow terminal cuts descriptions and moves reasons, and leaves whole what one types again."""
    named = {**DEVICE, 'vendor': 'SanDisk', 'product': 'Extreme Portable Solid State Disk with a long name'}
    hub = {**named, 'socket': '0000:00:14.0/2', 'kernel_name': '1-2', 'hub': True, 'in_use': 1, 'holder': None, 'uses': []}
    inventory = {**INVENTORY, 'devices': [hub, named]}
    with stand({ARBITER + 'Inventory': inventory, ARBITER + 'Claims': {'claims': [CLAIM, LOST]}}) as server:
        for words, kept in (('usb tree', ['0000:00:14.0', '1-2 ', '1-2.1', '0781:5581', 'host\r\n', 'mounted on /srv (sda1)']),
                            ('usb list', ['0000:00:14.0/2.1', '1-2.1', '0781:5581']), ('pci list', ['0000:00:14.0']),
                            ('usb claims', ['#12', '#13', '0000:00:14.0/2.1', '0000:03:00.0', 'vm:web1'])):
            for columns in (80, 78):
                shown = on_terminal(server, words.split(), columns, {'TERM': 'dumb', 'LC_ALL': 'C.UTF-8'})
                assert all(len(line) <= columns for line in shown.splitlines()), (words, shown)
                assert all(text in shown for text in kept) and '\u2026' in shown + ('\u2026' if words == 'pci list' else ''), (words, shown)
        assert '\x1b[1mDEVICE' in on_terminal(server, ['usb', 'tree'], 120, {'TERM': 'xterm'})


def test_rules():
    every = {**RULE, 'id': 4, 'socket': None, 'product_id': None, 'device_class': None, 'serial': 'S\x1b[2J'}
    with stand({ARBITER + 'AddRule': {'rule': RULE}, ARBITER + 'ListRules': {'rules': [RULE, every]}, ARBITER + 'RemoveRule': {}}) as server:
        assert expect(storctl(server, 'usb', 'rule', 'add', '--class=0b', '--for=vm:bank'), 0).stdout == (
            'rule 3: vm:bank gets 046d:c31c, class smartcard (0b), plugged into 0000:00:14.0/3\n')
        assert rows(server, 'usb', 'rule', 'list') == [
            'ID HOLDER SOCKET DEVICE SERIAL CLASS'.split(),
            '3 vm:bank 0000:00:14.0/3 046d:c31c - smartcard (0b)'.split(), '4 vm:bank - 046d S\\x1b[2J -'.split()]
        assert expect(storctl(server, 'usb', 'rule', 'remove', '3'), 0).stdout == 'rule 3: removed\n'

        def document(words):
            return json.loads(expect(storctl(server, *words.split(), '-j'), 0).stdout)
        assert document('usb rule add --serial S --for vm:bank') == {'version': 1, 'rule': RULE}
        assert document('usb rule list') == {'version': 1, 'rules': [RULE, every]}
        assert document('usb rule remove 3') == {'version': 1, 'removed': 3}


def test_claim_and_release():
    failed = {**LOST, 'state': 'provisional'}
    with stand({ARBITER + 'Claim': {'claims': [CLAIM, failed], 'earlier': [12], 'warnings': ['slow']}, ARBITER + 'Release': {'released': [CLAIM]}}) as server:
        done = expect(storctl(server, *CLAIM_WORDS.split()), 0, err='warning: slow')
        assert done.stdout == (
            'claimed #12: device 0000:00:14.0/2.1 (0781:5581 SanDisk Ultra) for vm:web1\n'
            'claimed #13: controller 0000:03:00.0 (0781:5581 SanDisk Ultra) for vm:web1, provisional until 2026-11-22T12:00:30Z, '
            'drivers left as they are, drivers failed: vfio-pci: Device or resource busy\n'), done.stdout
        done = expect(storctl(server, *CLAIM_WORDS.split(), '--dry-run'), 0)
        assert done.stdout.startswith('would claim device 0000:00:14.0/2.1 (0781:5581 SanDisk Ultra) for vm:web1\n'), done.stdout
        done = expect(storctl(server, *CLAIM_WORDS.split(), '-nj'), 0)
        assert json.loads(done.stdout) == {'version': 1, 'dry_run': True, 'claims': [CLAIM, failed], 'earlier': [12], 'warnings': ['slow']}
        expect(storctl(server, 'usb', 'release', '1-2.1'), 0, out='released #12: device 0000:00:14.0/2.1 ')
        expect(storctl(server, 'usb', 'release', '1-2.1', '-n'), 0, out='would release #12: device 0000:00:14.0/2.1 ')
        for more in ([], ['--dry-run']):
            done = expect(storctl(server, 'pci', 'release', '#12', '-j', *more), 0)
            assert json.loads(done.stdout) == {'version': 1, 'dry_run': bool(more), 'released': [CLAIM]}
    with stand({ARBITER + 'Release': {'released': [CLAIM, {**LOST, 'kind': 'device'}]}}) as server:
        for more in ([], ['-j']):
            done = expect(storctl(server, 'usb', 'release', '-a', '--for', 'vm:a', *more), 9, out='0000:03:00.0')
            assert done.stderr == ("storctl: released 0000:03:00.0, and the host's drivers did not come back: "
                                   'vfio-pci: Device or resource busy\n'), done.stderr
        assert expect(storctl(server, 'usb', 'release', '-a', '--for', 'vm:a', '-n'), 0).stderr == ''
    with stand({ARBITER + 'Release': {'released': []}}) as server:
        assert expect(storctl(server, 'usb', 'release', '-a', '--for', 'vm:a'), 0).stdout == 'nothing to release\n'


def test_long_work_says_what_it_waits_for():
    told = threading.Event()

    def when_told(call, connection):
        told.wait(DEADLINE_SECONDS)
        answers = {'Claim': {'claims': [CLAIM], 'warnings': []}, 'Release': {'released': [CLAIM]}}
        send(connection, {'parameters': answers[call['method'].rsplit('.', 1)[1]]})
    with stand({ARBITER + 'Claim': when_told, ARBITER + 'Release': when_told}) as server:
        for words, awaited in ((CLAIM_WORDS, 'moving drivers'), ('pci release 00:14.0', 'the machine may still have the function')):
            told.clear()
            with subprocess.Popen([STORCTL, '--run-dir', server.run_dir, *words.split()], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) as process:
                line = process.stderr.readline()
                assert line.startswith('storctl: waiting: stord is ') and awaited in line, line
                told.set()
                assert process.wait(DEADLINE_SECONDS) == 0
                assert process.stderr.read() == ''


def rows(server, *words):
    done = expect(storctl(server, *words), 0)
    assert '\x1b' not in done.stdout, done.stdout
    return [line.split() for line in done.stdout.splitlines()]


def test_tables():
    with stand({ARBITER + 'Inventory': INVENTORY, ARBITER + 'Claims': {'claims': [CLAIM, LOST, OBSERVED]}}) as server:
        assert rows(server, 'usb', 'list') == [
            'SOCKET NAME ID SPEED IN-USE HOLDER NOTES DESCRIPTION'.split(),
            '0000:00:14.0/2.1 1-2.1 0781:5581 480M - host mount SanDisk Ultra 日立\\x1b]0;x\\x07'.split()]
        assert rows(server, 'usb', 'list', '--no-headings', '-o', 'uses,interfaces,claim,class') == [
            'mounted on /srv (sda1) 0:08/06/50:usb-storage - 00'.split()]
        assert rows(server, 'usb', 'claims') == [
            'ID HOLDER STATE KIND TARGET NOTES DESCRIPTION'.split(),
            '#12 vm:web1 active device 0000:00:14.0/2.1 - 0781:5581 SanDisk Ultra'.split(),
            '#13 vm:web1 lost controller 0000:03:00.0 failed,keep-drivers 0781:5581 SanDisk Ultra'.split()]
        assert rows(server, 'usb', 'claims', '--all', '--no-headings', '-o', 'ID,HOLDER,NOTES')[2] == ['-', 'host', 'observed']
        assert rows(server, 'pci', 'list') == [
            'ADDRESS KIND DRIVER GROUP IN-USE HOLDER DESCRIPTION'.split(),
            '0000:00:14.0 usb xhci_hcd 4 2 - USB controller 8086:a36d Intel'.split()]
        assert rows(server, 'pci', 'list', '--all', '--no-headings', '-o', 'ADDRESS,GROUP,BUSES') == [
            ['0000:00:14.0', '4', 'usb1:2'], ['0000:00:1f.0', '-', '-']]


def test_json():
    with stand({ARBITER + 'Inventory': INVENTORY, ARBITER + 'Claims': {'claims': [CLAIM, OBSERVED]}}) as server:
        def document(words):
            return json.loads(expect(storctl(server, *words.split(), '-j'), 0).stdout)
        assert document('usb list') == {'version': 1, 'devices': [DEVICE]}
        assert document('usb claims') == {'version': 1, 'claims': [CLAIM]}
        assert document('usb claims -a') == {'version': 1, 'claims': [CLAIM, OBSERVED]}
        assert document('pci list') == {'version': 1, 'controllers': [CONTROLLER]}
        assert document('pci list -a') == {'version': 1, 'controllers': [CONTROLLER, BRIDGE]}


def test_hostile_answers():
    """An answer of the wrong shape is an empty one, not a crash."""
    for answer in ({}, {'devices': 5, 'controllers': 'x', 'claims': {}, 'released': 7},
                   {'devices': [5, None, {'uses': [3], 'interfaces': 7, 'speed_mbps': 4}], 'controllers': [None, {'buses': [1]}],
                    'claims': [{'id': 'x', 'counted': 5}, 8], 'released': [None]}):
        with stand({ARBITER + method: answer for method in ('Inventory', 'Claims', 'Claim', 'Release', 'ListRules', 'AddRule')}) as server:
            for words in ('usb tree', 'usb list', 'usb rule list', 'usb rule add --class hid --for x', 'usb claims', 'pci list', 'pci list -a', CLAIM_WORDS, 'usb release x'):
                expect(storctl(server, *words.split()), 0)
                expect(storctl(server, *words.split(), '-j'), 0)


if __name__ == '__main__':
    run_tests(globals())
