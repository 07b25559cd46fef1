/*
 * A small datapath for the loader's tests: counts frames by its VERSION, through a tail call, and answers with `verdict`.
 * The tests put these in front of it: VERSION, SECTION, WIDER_RECORD, OUT_OF_BOUNDS, WITHOUT_RECEIVE.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef VERSION
#define VERSION 1
#endif
#ifndef SECTION
#define SECTION "xdp"
#endif
#ifdef WITHOUT_RECEIVE
#define receive accept
#endif

enum colour { COLOUR_RED = 1, COLOUR_BLUE = 7 };

struct address {
	__be32 network;
	__u16 port;
	__be16 network_port;
};

struct record {
	__u32 number;
	union {
		__u64 whole;
		struct {
			__u32 low;
			__u32 high;
		};
	};
#ifdef WIDER_RECORD
	__u64 address_count;
#endif
	struct address addresses[2];
	__u8 mac[6];
	_Bool valid;
};

struct counters {
	__u64 packets[2];
	__u64 bytes;
};

struct with_bit_field {
	__u32 flag : 1;
	__u32 rest : 31;
};

union shared_types {
	struct with_bit_field with_bit_field;
} *shared_types;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, __u32);
} words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct counters);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

const volatile __u32 verdict = XDP_PASS;
const volatile enum colour colour = COLOUR_RED;
volatile __u32 lingering, lingered;

SEC(SECTION)
int answer(struct xdp_md *context)
{
	__u32 key = VERSION;
	__u64 *count = bpf_map_lookup_elem(&received, &key);

	if (count)
		(*count)++;
	__u32 *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (event) {
		*event = context->ingress_ifindex;
		bpf_ringbuf_submit(event, 0);
	}
#ifdef OUT_OF_BOUNDS
	if (count)
		count[1]++;
#endif
	__u8 *frame = (void *)(long)context->data;

	if (colour == COLOUR_BLUE && frame + 1 <= (__u8 *)(long)context->data_end)
		frame[0] = COLOUR_BLUE;
	return verdict;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} stages SEC(".maps") = { .values = { [1] = (void *)&answer } };

SEC(SECTION)
int receive(struct xdp_md *context)
{
	bpf_tail_call(context, &stages, 1);
	return XDP_ABORTED;
}

static int nothing(__u32 index, void *context)
{
	(void)index, (void)context;
	return 0;
}

/* Runs for some ten milliseconds. */
SEC(SECTION)
int linger(struct xdp_md *context)
{
	(void)context;
	lingering = 1;
	bpf_loop(1 << 23, nothing, NULL, 0);
	lingered = 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
