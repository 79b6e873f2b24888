"""A block node of the lab's tests with its SCSI form, run without stord: stor-node with a specification of its own.
Standard library only."""

import json
import os
import pathlib
import signal
import socket
import subprocess

from lab_test import BUILD, PATIENCE, check, fail, until

MAJOR, FIRST_MINOR = 21, 40000
NOTHING_RESERVED = {'version': 0, 'generation': 0, 'persists': False, 'type': None, 'holder': None, 'holder_port': None,
                    'registrations': []}


class BlockNode:
    """Serves `backing` as a file and as an sg device until `stop`."""

    _minors = iter(range(FIRST_MINOR, FIRST_MINOR + 100))

    def __init__(self, name, backing, kind='file', open_policy='shared', serial='LAB-1', environment=None):
        self.file = f'/run/{name}.img'
        self.sg = f'/dev/storctl/sg/{name}'
        self.socket = f'/run/{name}.socket'
        self.log = pathlib.Path(f'/run/{name}.log')
        self._spec = pathlib.Path(f'/run/{name}.json')
        self._environment = environment
        self.spec = {
            'version': 1, 'name': name, 'kind': 'block', 'backing_path': str(backing), 'backing_kind': kind,
            'control_socket': self.socket, 'mount_path': self.file, 'loop_link': '', 'open': open_policy, 'host': 'lab',
            'identity': {'vendor': 'STORCTL', 'product': name, 'revision': '1', 'serial': serial,
                         'naa': '3000000000000001', 'eui64': '', 'target_ports': 1},
            'sg': {'device_name': f'storctl/sg/{name}', 'major': MAJOR, 'minor': next(self._minors), 'required': True},
            'reservations': NOTHING_RESERVED}
        self.start()

    def start(self):
        self._spec.write_text(json.dumps(self.spec), encoding='ascii')
        with self.log.open('ab') as log:
            self.process = subprocess.Popen([BUILD / 'daemon/node/stor-node', '--spec', self._spec], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env={**os.environ, **(self._environment or {})})
        until(self.sg, lambda: self.process.poll() is not None or
              (os.path.exists(self.sg) and os.path.exists(self.socket)))
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
        return {one['operation']: one for one in self.call('Stat')['operations']}

    def reads_of_cuse(self):
        """read(2) and its kin by the process: each request of the kernel takes one."""
        return int(next(line for line in pathlib.Path(f'/proc/{self.process.pid}/io').read_text(encoding='ascii').splitlines()
                        if line.startswith('syscr')).split()[1])

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            fail(f'stor-node does not end: {self.said()}')
        check(status == 0, f'stor-node ended with {status}: {self.said()}')
