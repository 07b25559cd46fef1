/* The limit of the rig: what comes in goes out, unread, by the helper and the kind of map that the gateway uses too. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

SEC("xdp")
int redirect_provider(__attribute__((unused)) struct xdp_md *ctx)
{
	return bpf_redirect_map(&devices, 0, 0);
}

SEC("xdp")
int redirect_external(__attribute__((unused)) struct xdp_md *ctx)
{
	return bpf_redirect_map(&devices, 1, 0);
}

char LICENSE[] SEC("license") = "GPL";
