/* A 32-bit client of usbfs, without a C library, so that the compiler needs no 32-bit one: bulk-only mass storage's
 * INQUIRY, through every request whose structure holds pointers. One line for each step; the lab test compares those
 * of the kernel's node and of a mediated one.
 *
 *   usbfs32 NODE ENDPOINT-IN ENDPOINT-OUT     (hexadecimal)
 */
#include <stddef.h>
#include <stdint.h>

/* include/uapi/linux/usbdevice_fs.h, as it is for 32 bits */
struct control {
	uint8_t request_type, request;
	uint16_t value, index, length;
	uint32_t timeout_ms;
	void *data;
};
struct bulk {
	uint32_t endpoint, length, timeout_ms;
	void *data;
};
struct urb {
	uint8_t type, endpoint;
	int32_t status;
	uint32_t flags;
	void *buffer;
	int32_t buffer_length, actual_length, start_frame, packets, error_count;
	uint32_t signal;
	void *context;
};
struct driver_ioctl {
	int32_t interface, code;
	void *data;
};
struct connect_info {
	uint32_t number;
	uint8_t slow;
};
_Static_assert(sizeof(struct control) == 16 && sizeof(struct bulk) == 16 && sizeof(struct urb) == 44 &&
		       sizeof(struct driver_ioctl) == 12 && sizeof(struct connect_info) == 8,
	       "the kernel's compat structures");

enum {
	submit_urb = (int)0x802c550a,
	discard_urb = 0x550b,
	reap_urb_no_delay = 0x4004550d,
	claim_interface = (int)0x8004550f,
	release_interface = (int)0x80045510,
	get_connect_info = 0x40085511,
	ioctl_of_driver = (int)0xc00c5512,
	connect_driver = 0x5517,
	get_capabilities = (int)0x8004551a,
	control_transfer = (int)0xc0105500,
	bulk_transfer = (int)0xc0105502
};
enum { sys_exit = 1, sys_write = 4, sys_open = 5, sys_ioctl = 54, sys_poll = 168 };
enum { read_write = 2, poll_out = 4, patience_ms = 30000 };

static int call(int number, long a, long b, long c)
{
	int result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

/* gcc makes calls of these by itself */
void *memset(void *memory, int value, size_t size)
{
	for (size_t i = 0; i < size; ++i)
		((volatile uint8_t *)memory)[i] = (uint8_t)value;
	return memory;
}
void *memcpy(void *to, const void *from, size_t size)
{
	for (size_t i = 0; i < size; ++i)
		((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

static void text(const char *string)
{
	size_t length = 0;
	while (string[length])
		++length;
	call(sys_write, 1, (long)string, (long)length);
}
static void number(int value)
{
	char digits[13], *at = digits + sizeof digits - 1;
	uint32_t left = value < 0 ? -(uint32_t)value : (uint32_t)value;
	*at = 0;
	do
		*--at = (char)('0' + left % 10);
	while (left /= 10);
	if (value < 0)
		*--at = '-';
	*--at = ' ';
	text(at);
}
static void bytes(const uint8_t *data, int length)
{
	static const char digits[] = "0123456789abcdef";
	char pair[3] = "";
	text(" ");
	for (int i = 0; i < length; ++i) {
		pair[0] = digits[data[i] >> 4];
		pair[1] = digits[data[i] & 15];
		text(pair);
	}
}
static void line(const char *what, int result)
{
	text(what);
	number(result);
	text("\n");
}
static uint8_t hexadecimal(const char *string)
{
	unsigned value = 0;
	for (; *string; ++string)
		value = value * 16 + (unsigned)(*string <= '9' ? *string - '0' : (*string | 32) - 'a' + 10);
	return (uint8_t)value;
}

static int node;

static int request(int what, void *argument)
{
	return call(sys_ioctl, node, what, (long)argument);
}

/* What lies around the URB and the pointer must stay. */
static void transfer(const char *what, uint8_t endpoint, uint8_t *data, int length)
{
	struct {
		uint32_t before;
		struct urb urb;
		uint32_t after;
	} guarded = { 0x11111111, { 3, endpoint, -77, 0, data, length, 0, 0, 0, 0, 0, &node }, 0x22222222 };
	struct {
		uint32_t before;
		struct urb *urb;
		uint32_t after;
	} reaped = { 0x33333333, 0, 0x44444444 };
	struct {
		int descriptor;
		int16_t wanted, got;
	} wait = { node, poll_out, 0 };

	text(what);
	number(request(submit_urb, &guarded.urb));
	number(call(sys_poll, (long)&wait, 1, patience_ms));
	number(request(reap_urb_no_delay, &reaped.urb));
	number(reaped.urb == &guarded.urb && guarded.urb.context == &node);
	number(guarded.urb.status);
	number(guarded.urb.actual_length);
	number(guarded.urb.error_count);
	number(guarded.before == 0x11111111 && guarded.after == 0x22222222 && reaped.before == 0x33333333 &&
	       reaped.after == 0x44444444);
	bytes(data, length);
	text("\n");
}

static int client(char **arguments)
{
	static uint8_t command[31] = { 'U', 'S', 'B', 'C', 1, 2, 3, 4, 36, 0, 0, 0, 0x80, 0, 6, 0x12, 0, 0, 0, 36 };
	static uint8_t descriptor[18], inquiry[36], status[13], luns;
	struct connect_info connected = { 0, 9 };
	struct driver_ioctl attach = { 0, connect_driver, 0 };
	struct control get_descriptor = { 0x80, 6, 0x0100, 0, sizeof descriptor, 5000, descriptor };
	struct control get_max_lun = { 0xa1, 0xfe, 0, 0, 1, 5000, &luns };
	struct urb nothing = { 3, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	uint32_t capabilities = 0, interface = 0;
	struct urb *none = 0;

	node = call(sys_open, (long)arguments[1], read_write, 0);
	line("open", node < 0 ? node : 0);
	if (node < 0)
		return 1;
	const uint8_t in = hexadecimal(arguments[2]), out = hexadecimal(arguments[3]);
	struct bulk read_status = { in, sizeof status, 5000, status };

	line("connectinfo", request(get_connect_info, &connected));
	line("device", (int)connected.number);
	line("slow", connected.slow);
	line("get_capabilities", request(get_capabilities, &capabilities));
	line("capabilities", (int)capabilities);
	line("control", request(control_transfer, &get_descriptor));
	text("descriptor");
	bytes(descriptor, sizeof descriptor);
	text("\n");
	line("claim", request(claim_interface, &interface));
	line("attach", request(ioctl_of_driver, &attach));
	line("get_max_lun", request(control_transfer, &get_max_lun));
	line("luns", luns);
	line("reap of nothing", request(reap_urb_no_delay, &none));
	line("discard of nothing", request(discard_urb, &nothing));
	transfer("command", out, command, sizeof command);
	transfer("inquiry", in, inquiry, sizeof inquiry);
	line("bulk", request(bulk_transfer, &read_status));
	text("status");
	bytes(status, sizeof status);
	text("\n");
	transfer("command", out, command, sizeof command);
	transfer("inquiry", in, inquiry, sizeof inquiry);
	transfer("status", in, status, sizeof status);
	line("submit of nothing", request(submit_urb, (void *)16));
	line("release", request(release_interface, &interface));
	return 0;
}

__attribute__((used)) static void begin(long *stack)
{
	if (stack[0] == 4)
		call(sys_exit, client((char **)(stack + 1)), 0, 0);
	text("usage: usbfs32 NODE ENDPOINT-IN ENDPOINT-OUT\n");
	call(sys_exit, 2, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %esp, %eax\n"
	"	and $-16, %esp\n"
	"	sub $12, %esp\n"
	"	push %eax\n"
	"	call begin\n");
