#!/usr/bin/env python3
"""Over 200 malformed messages leave a control server serving others.

    control_malformed.py --program CONTROL_SERVER      starts it as CONTROL_SERVER SOCKET
    control_malformed.py --stord STORD                 starts it with directories of its own
    control_malformed.py --socket SOCKET               takes a server that is already there

Each message comes on a connection of its own. What came of it is checked, and then that another client's calls are still
answered at once. In the end the server is the same process, has no more descriptors than before and has not grown.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ANSWER_SECONDS = 10      # for a loaded machine; a held-up server takes for ever
PARTIAL_SECONDS = 25     # the server's own limit for half a message is below this
GROWTH_KIB = 96 << 10    # a few messages of 1 MiB as values, and the allocator's reserve
LIMIT = 1 << 20          # the server's limit for one message
SERVICE = 'org.varlink.service.'
SEED = 20261122


class Closed(Exception):
    pass


class Client:
    """One connection that may send anything."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(path)
        self.buffer = b''

    def send(self, data):
        """False when the server closed before it had taken everything."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def receive(self):
        while b'\0' not in self.buffer:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b''
            if not data:
                raise Closed
            self.buffer += data
        message, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.send(encode({'method': method, 'parameters': parameters}))
        return self.receive()

    def server_pid(self):
        credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i'))
        return struct.unpack('3i', credentials)[0]

    def close(self):
        self.socket.close()


def encode(message):
    return json.dumps(message).encode() + b'\0'


VALID = encode({'method': SERVICE + 'GetInfo', 'parameters': {}})


# Each case is (name, bytes, what comes of it): 'error' an error answer and the connection goes on, 'rejected' an error
# answer and the connection ends, 'waits' nothing as long as the rest may still come.

def truncated():
    for cut in range(1, len(VALID) - 1, 3):
        yield f'cut after {cut} bytes, then the end', VALID[:cut], 'rejected'
    yield 'the NUL alone is missing', VALID[:-1], 'rejected'
    yield 'a good call, then half of one', VALID + VALID[:20], 'rejected'


def oversized():
    yield 'one byte over the limit', b' ' * (LIMIT + 1) + b'\0', 'rejected'
    yield 'over the limit without an end', b'{"method":"' + b'x' * LIMIT, 'rejected'
    yield 'four times the limit', b'[' + b'1,' * (2 * LIMIT) + b'1]\0', 'rejected'
    yield 'a parameter at the limit', encode({'method': 'a.b.C', 'parameters': {'x': 'y' * (LIMIT - 60)}}), 'error'
    yield 'a method name of half the limit', encode({'method': 'a.' + 'b' * (LIMIT // 2)}), 'error'
    yield 'an interface name of half the limit', encode({'method': 'a' * (LIMIT // 2) + '.B'}), 'error'
    yield 'a hundred thousand members', encode({f'member{i}': 0 for i in range(50000)}), 'rejected'
    yield 'a hundred thousand parameters', encode({'method': SERVICE + 'GetInfo',
                                                   'parameters': {f'p{i}': 0 for i in range(50000)}}), 'error'
    yield 'half a million empty arrays', b'[' + b'[],' * 300000 + b'[]]\0', 'rejected'
    yield 'only NULs', b'\0' * 1000, 'rejected'
    yield 'a number of a hundred thousand digits', b'{"method":' + b'9' * 100000 + b'}\0', 'rejected'
    yield 'white space, then a call', b' ' * 500000 + VALID.replace(b'GetInfo', b'GetNone'), 'error'


def wrong_envelope():
    for value in ([], 'text', 17, 1.5, True, None, [VALID.decode()[:-1]]):
        yield f'a call that is {type(value).__name__}', encode(value), 'rejected'
    for member, values in {'method': (1, None, [], {}, True, ''),
                           'parameters': (1, [], 'x', True, 1.5),
                           'more': (1, 'true', None, [], {}),
                           'oneway': (0, 'false', None, [], {}),
                           'upgrade': (True, 1, 'x', None)}.items():
        for value in values:
            yield (f'{member} is {value!r}', encode({'method': SERVICE + 'GetInfo', 'parameters': {}, member: value}),
                   'rejected')
    yield 'no method', encode({'parameters': {}}), 'rejected'
    yield 'an unknown member', encode({'method': SERVICE + 'GetInfo', 'paramters': {}}), 'rejected'
    yield 'more and oneway', encode({'method': SERVICE + 'GetInfo', 'more': True, 'oneway': True}), 'rejected'
    yield 'a reply instead of a call', encode({'parameters': {'devices': []}}), 'rejected'
    yield 'a member twice', b'{"method":"a.b.C","method":"%sGetInfo"}\0' % SERVICE.encode(), 'rejected'
    yield 'a parameter twice', b'{"method":"a.b.C","parameters":{"x":1,"x":2}}\0', 'rejected'


def wrong_method():
    for name in ('GetInfo', '.', '..', '.GetInfo', 'org.varlink.service.', 'org.varlink.service', 'org.varlink.service.getinfo',
                 'io.storctl.Nothing.List', 'io..storctl.List', '../../etc/passwd', "'; drop table nodes; --", ' ', '%s%n%d',
                 'org.varlink.service.GetInfo ', 'é.è.Ñ'):
        yield f'method {name!r}', encode({'method': name}), 'error'


def wrong_parameters(methods):
    """For every method that the server describes: none of these can do anything."""
    for method, fields in methods:
        yield f'{method} with an unknown parameter', encode({'method': method, 'parameters': {'zz': 1}}), 'error'
        good = {name: sample(kind) for name, kind in fields}
        for name, kind in fields:
            for wrong in ({'a': 1}, [1], 1.5, -(2 ** 63) - 1):
                if wrong == [1] and kind.endswith('[]int'):
                    continue
                yield (f'{method} with {name} = {wrong!r}',
                       encode({'method': method, 'parameters': {**good, name: wrong}}), 'error')
            if not kind.startswith('?'):
                yield (f'{method} with {name} null', encode({'method': method, 'parameters': {**good, name: None}}), 'error')


def sample(kind):
    return {'string': 'x', 'int': 1, 'bool': False, 'float': 1.0}.get(kind.lstrip('?'), None)


def nested():
    for depth in (64, 65, 1000, 100000):
        yield f'{depth + 1} arrays', b'[' * (depth + 1) + b']' * (depth + 1) + b'\0', 'rejected'
        yield f'{depth + 1} arrays without an end', b'[' * (depth + 1) + b'\0', 'rejected'
        yield f'{depth} objects in the parameters', (b'{"method":"a.b.C","parameters":' + b'{"a":' * depth + b'1' +
                                                    b'}' * depth + b'}\0'), 'rejected'
    yield 'objects and arrays in turn', b'{"a":[' * 40000 + b'\0', 'rejected'
    yield 'closing without opening', b']' * 1000 + b'\0', 'rejected'


BAD_UTF8 = {
    'a lone continuation byte': b'\x80', 'a byte that never occurs': b'\xff', 'another one': b'\xfe',
    'an overlong slash': b'\xc0\xaf', 'an overlong NUL': b'\xe0\x80\x80', 'a surrogate': b'\xed\xa0\x80',
    'a surrogate pair': b'\xed\xa0\xbd\xed\xb8\x80', 'beyond Unicode': b'\xf4\x90\x80\x80', 'a cut character': b'\xe2\x82',
    'five bytes': b'\xf8\x88\x80\x80\x80', 'Latin-1': 'Größe'.encode('latin-1'),
}


def bad_text():
    for name, data in BAD_UTF8.items():
        yield f'{name} in the method', b'{"method":"a.b.' + data + b'"}\0', 'rejected'
        yield f'{name} in a parameter', b'{"method":"a.b.C","parameters":{"x":"' + data + b'"}}\0', 'rejected'
        yield f'{name} as a member', b'{"' + data + b'":1}\0', 'rejected'
    for name, text in {'an escaped NUL': b'\\u0000', 'half a pair': b'\\ud800', 'the other half': b'\\udc00',
                       'a raw newline': b'\n', 'a raw control character': b'\x01', 'an unknown escape': b'\\x41',
                       'a short escape': b'\\u00'}.items():
        yield f'{name} in a parameter', b'{"method":"a.b.C","parameters":{"x":"' + text + b'"}}\0', 'rejected'
    for number in (b'1e999', b'-1e999', b'NaN', b'Infinity', b'0x10', b'01', b'1.', b'.5', b'+1', b'1e', b'--1', b'1_000'):
        yield f'the number {number.decode()}', b'{"method":"a.b.C","parameters":{"x":' + number + b'}}\0', 'rejected'
    for text in (b"{'method':'a.b.C'}", b'{"method":"a.b.C",}', b'{"method":"a.b.C"}}', b'{"method" "a.b.C"}',
                 b'{method:"a.b.C"}', b'{"method":"a.b.C"}/**/', b'\xef\xbb\xbf[]', b'{"method":True}', b'{}{}', b','):
        yield f'not JSON: {text.decode()}', text + b'\0', 'rejected'


def other_protocols():
    yield 'an HTTP request', b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', 'waits'
    yield 'an HTTP request, then the end', b'GET / HTTP/1.1\r\n\r\n\0', 'rejected'
    yield 'a TLS greeting', bytes.fromhex('16030100c8010000c40303') + bytes(180), 'rejected'
    yield 'a D-Bus greeting', b'\0AUTH EXTERNAL 30\r\n', 'rejected'
    yield 'JSON-RPC', encode({'jsonrpc': '2.0', 'method': 'x', 'id': 1}), 'rejected'
    yield 'QMP', b'{"execute":"qmp_capabilities"}\0', 'rejected'
    generator = random.Random(SEED)
    for i in range(25):
        yield f'random bytes {i} of seed {SEED}', generator.randbytes(generator.randint(1, 3000)) + b'\0', 'rejected'
    for i in range(25):
        data = bytearray(VALID[:-1])
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.choice(b'\x01"{}[]:,\\x\xff0')
        # what still is a call gets an answer to it; that is checked as "some answer" below
        yield f'a call with changed bytes {i} of seed {SEED}', bytes(data) + b'\0', 'any'


def silent():
    for i in range(10):
        yield f'silence after {i * 5} bytes', VALID[:i * 5], 'waits'


def describe(client):
    """Every method with its parameters as (name, type), from the server's own descriptions."""
    methods = []
    for interface in client.call(SERVICE + 'GetInfo')['parameters']['interfaces']:
        text = client.call(SERVICE + 'GetInterfaceDescription', interface=interface)['parameters']['description']
        for method, fields in re.findall(r'^method\s+(\w+)\s*\(([^)]*)\)', text, re.M):
            pairs = [tuple(part.strip() for part in field.split(':')) for field in fields.split(',') if field.strip()]
            methods.append((f'{interface}.{method}', pairs))
    return methods


class Failure(Exception):
    pass


def expect_error(client, name):
    """Skips answers to good calls in front."""
    while True:
        reply = client.receive()
        if 'error' in reply:
            break
        if 'vendor' not in reply['parameters']:
            raise Failure(f'answered with {reply}')
    if not reply['error'].startswith(SERVICE):
        raise Failure(f'answered with {reply["error"]}')
    if reply['error'] == SERVICE + 'InvalidParameter' and not reply['parameters'].get('message'):
        raise Failure(f'no reason is given: {reply}')


def expect_closed(client, seconds=ANSWER_SECONDS):
    client.socket.settimeout(seconds)
    try:
        reply = client.receive()
    except Closed:
        return
    raise Failure(f'an answer too many: {reply}')


def run_case(path, data, outcome):
    """Gives the client back when it stays connected."""
    client = Client(path)
    client.send(data)
    if outcome == 'waits':
        return client
    if outcome == 'error':
        expect_error(client, data)
        if 'vendor' not in client.call(SERVICE + 'GetInfo')['parameters']:
            raise Failure('the connection is of no use afterwards')
    elif outcome == 'any':
        client.receive()
    else:
        if data.endswith(b'\0'):
            client.send(VALID)  # what stands behind it must not be answered: the server cannot know where it begins
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        expect_error(client, data)
        expect_closed(client)
    client.close()
    return None


def tricks(path):
    """What is not a matter of bytes."""
    client = Client(path)
    client.send(VALID * 500)
    client.close()
    yield '500 calls and gone without reading'

    client = Client(path)
    client.socket.shutdown(socket.SHUT_RD)
    client.send(VALID)
    client.close()
    yield 'a call from one who does not listen'

    client = Client(path)
    with open('/dev/null', 'rb') as null:
        for _ in range(50):
            socket.send_fds(client.socket, [VALID], [null.fileno()] * 20)
    for _ in range(50):
        client.receive()
    client.close()
    yield 'descriptors sent along'

    client = Client(path)
    for byte in VALID:
        client.send(bytes([byte]))
    if 'vendor' not in client.receive()['parameters']:
        raise Failure('a call sent byte by byte was not answered')
    client.close()
    yield 'a call byte by byte'

    client = Client(path)
    client.send(b'')
    client.close()
    yield 'connect and go'

    clients = [Client(path) for _ in range(100)]
    for client in clients:
        client.send(VALID[:-1])
    for client in clients:
        client.close()
    yield 'a hundred clients with half a call, gone'

    client = Client(path)
    with contextlib.suppress(OSError):
        client.socket.send(b'!', socket.MSG_OOB)
    client.close()
    yield 'urgent data'


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def resident_kib(pid):
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(re.search(r'^VmRSS:\s+(\d+) kB', status, re.M).group(1))


def run(path):
    good = Client(path)
    pid = good.server_pid()
    methods = describe(good)
    warm_up(path, good)
    before = descriptors(pid), resident_kib(pid)
    slowest = 0.0

    def still_served(name):
        nonlocal slowest
        start = time.monotonic()
        try:
            reply = good.call(SERVICE + 'GetInfo')
        except (Closed, OSError) as error:
            raise Failure(f'after "{name}" others are not served: {error!r}') from error
        if 'vendor' not in reply.get('parameters', {}):
            raise Failure(f'after "{name}" others get {reply}')
        slowest = max(slowest, time.monotonic() - start)

    waiting, count = [], 0
    for family in (silent(), truncated(), oversized(), wrong_envelope(), wrong_method(), wrong_parameters(methods), nested(),
                   bad_text(), other_protocols()):
        for name, data, outcome in family:
            try:
                client = run_case(path, data, outcome)
            except (Failure, Closed, OSError) as error:
                raise Failure(f'"{name}": {error!r}') from error
            if client:
                waiting.append((name, bool(data), client))
            still_served(name)
            count += 1
    for name in tricks(path):
        still_served(name)
        count += 1

    for name, has_sent, client in waiting:
        if has_sent:
            expect_closed_after_error(client, name)
        else:
            client.close()
    still_served('the half messages')
    if count < 200:
        raise Failure(f'only {count} messages')
    check_process(good, pid, before)
    print(f'{count} malformed messages; others waited {slowest * 1000:.1f} ms at the most')


def warm_up(path, good):
    """The first half message makes the server open its timer, which stays."""
    client = Client(path)
    client.send(VALID[:10])
    for _ in range(5):
        good.call(SERVICE + 'GetInfo')
    client.send(VALID[10:])
    client.receive()
    client.close()


def expect_closed_after_error(client, name):
    try:
        expect_closed(client, PARTIAL_SECONDS)
    except OSError as error:
        raise Failure(f'"{name}" is still connected after {PARTIAL_SECONDS} s') from error


def check_process(good, pid, before):
    fresh = Client(good.socket.getpeername())
    if fresh.server_pid() != pid:
        raise Failure('the server is another process by now')
    fresh.close()
    deadline = time.monotonic() + ANSWER_SECONDS
    while descriptors(pid) > before[0]:
        good.call(SERVICE + 'GetInfo')
        if time.monotonic() > deadline:
            raise Failure(f'descriptors: {before[0]} before, {descriptors(pid)} after')
    growth = resident_kib(pid) - before[1]
    if growth > GROWTH_KIB and not os.environ.get('ASAN_OPTIONS'):
        raise Failure(f'the server has grown by {growth} KiB')


def wait_for(path, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f'the server ended with status {process.returncode}')
        try:
            return Client(path).close()
        except (FileNotFoundError, ConnectionRefusedError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    raise Failure('the server does not listen')


def start_and_run(command, path, log_path):
    with open(log_path, 'wb') as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(path, process)
        run(path)
        process.send_signal(signal.SIGTERM)
        if process.wait(30) != 0:
            raise Failure(f'the server ended with status {process.returncode}')
    except Failure:
        sys.stderr.write(pathlib.Path(log_path).read_text(errors='replace')[-5000:])
        raise
    finally:
        process.kill()
        process.wait()
    lines = pathlib.Path(log_path).read_text(errors='replace').splitlines()
    if len(lines) > 500:
        raise Failure(f'{len(lines)} lines in the log: clients can flood it')
    if bad := [line for line in lines if 'error: ' in line or 'Sanitizer' in line or 'runtime error' in line]:
        raise Failure('in the log: ' + bad[0])


def main():
    parser = argparse.ArgumentParser()
    choice = parser.add_mutually_exclusive_group(required=True)
    for name in ('--program', '--stord', '--socket'):
        choice.add_argument(name)
    options = parser.parse_args()
    try:
        if options.socket:
            return run(options.socket)
        with tempfile.TemporaryDirectory(prefix='storctl-') as folder:
            if options.program:
                return start_and_run([options.program, f'{folder}/socket'], f'{folder}/socket', f'{folder}/log')
            for name in ('state', 'run', 'dev'):
                os.mkdir(f'{folder}/{name}')
            pathlib.Path(f'{folder}/stord.toml').write_text(f'dev_dir = "{folder}/dev"\n')
            command = [options.stord, '--config', f'{folder}/stord.toml', '--state-dir', f'{folder}/state', '--run-dir',
                       f'{folder}/run', '--supervisor', 'fork', '--foreground']
            return start_and_run(command, f'{folder}/run/io.storctl', f'{folder}/log')
    except Failure as failure:
        sys.exit(f'FAIL: {failure}')


main()
