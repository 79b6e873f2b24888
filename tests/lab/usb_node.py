"""A mediated USB node of the lab's tests, run without stord: stor-node with a specification of its own. Standard library only."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess

from lab_test import BUILD, PATIENCE, check, fail, until

MAJOR, FIRST_MINOR = 189, 64 * 128


class UsbNode:
    """Serves /dev/storctl/usb/NAME from the device's own node until `stop`."""

    _minors = iter(range(FIRST_MINOR, FIRST_MINOR + 100))

    def __init__(self, name, devnode, open_policy='single-writer', interfaces=None, deny=('firmware',)):
        self.path = f'/dev/storctl/usb/{name}'
        self.socket = f'/run/{name}.socket'
        spec = pathlib.Path(f'/run/{name}.json')
        spec.write_text(json.dumps({
            'version': 1, 'name': name, 'kind': 'usb', 'backing_path': devnode, 'backing_kind': 'usb',
            'control_socket': self.socket, 'mount_path': '', 'open': open_policy,
            'usb': {'device_name': f'storctl/usb/{name}', 'major': MAJOR, 'minor': next(self._minors),
                    'interfaces': interfaces, 'deny': list(deny), 'descriptors': ''}}), encoding='ascii')
        self.log = pathlib.Path(f'/run/{name}.log')
        with self.log.open('wb') as log:
            self.process = subprocess.Popen([BUILD / 'daemon/node/stor-node', '--spec', spec], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        until(f'{self.path}', lambda: self.process.poll() is not None or
              (os.path.exists(self.path) and os.path.exists(self.socket)))
        check(self.process.poll() is None, f'stor-node ended with {self.process.poll()}: {self.said()}')

    def said(self):
        return self.log.read_text(encoding='utf-8', errors='replace')

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(self.socket)
            connection.sendall(json.dumps({'method': f'io.storctl.NodeProcess.{method}', 'parameters': parameters}).encode() + b'\0')
            answer = b''
            while not answer.endswith(b'\0'):
                piece = connection.recv(1 << 16)
                check(piece, f'stor-node closed the connection over {method}: {self.said()}')
                answer += piece
        answer = json.loads(answer[:-1])
        check('error' not in answer, f'{method}: {answer}')
        return answer['parameters']

    def operations(self):
        """Counters by the kind of URB, and of requests: ioctl, poll."""
        return {one['operation']: one for one in self.call('Stat')['operations']}

    def resident_kib(self):
        status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text(encoding='ascii')
        return int(next(line for line in status.splitlines() if line.startswith('VmRSS')).split()[1])

    def proportional_kib(self):
        """Resident, shared pages by the share of each process."""
        rollup = pathlib.Path(f'/proc/{self.process.pid}/smaps_rollup').read_text(encoding='ascii')
        return int(next(line for line in rollup.splitlines() if line.startswith('Pss:')).split()[1])

    def threads(self):
        return len(os.listdir(f'/proc/{self.process.pid}/task'))

    def descriptors(self):
        """What each open one of the process is of."""
        found = []
        for link in pathlib.Path(f'/proc/{self.process.pid}/fd').iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(link))
        return sorted(found)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            fail(f'stor-node does not end: {self.said()}')
        check(status == 0, f'stor-node ended with {status}: {self.said()}')
        check(not os.path.exists(self.path), f'{self.path} is still there')
