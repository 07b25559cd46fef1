/* Neighbours on external ports, by port and address: learned here, and good while no daemon runs. */
#pragma once

#include "packet.h"

static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

#define SPREAD 0x9E3779B1 /* multiplicative hashing: 2^32 divided by the golden ratio */

/* One of `count` lines from `first` on. */
static __always_inline void *line_for(__u32 first, __u32 count, __u32 key)
{
	__u32 line = first + ((__u64)(key * SPREAD) * count >> 32);

	return count ? &neighbours[line & (NEIGHBOUR_LINES - 1)] : NULL;
}

static __always_inline struct neighbour *neighbour_line(const struct port *port, __u32 address)
{
	return line_for(port->neighbours4, port->neighbours4_lines, address);
}

static __always_inline struct neighbour6 *neighbour_line6(const struct port *port, const __u32 *address)
{
	return line_for(port->neighbours6, port->neighbours6_lines, fold(address));
}

/* 0: unknown. */
static __always_inline __u64 find_neighbour(const struct port *port, __u32 address)
{
	struct neighbour *line = neighbour_line(port, address);

	if (!line)
		return 0;
	for (int i = 0; i < CELLS_PER_LINE; i++)
		if (line[i].address == address)
			return mac_of(line[i].mac);
	return 0;
}

static __always_inline __u64 find_neighbour6(const struct port *port, const __u32 *address)
{
	struct neighbour6 *line = neighbour_line6(port, address);

	if (line && same6(line[0].address, address))
		return mac_of(line[0].mac);
	return line && same6(line[1].address, address) ? mac_of(line[1].mac) : 0;
}

static __always_inline void learn4(const struct port *port, __u32 address, __u64 mac, bool known_only)
{
	struct neighbour *line = neighbour_line(port, address), *oldest;

	if (!line)
		return;
	oldest = line;
	for (int i = 0; i < CELLS_PER_LINE; i++) {
		if (line[i].address == address) {
			oldest = &line[i];
			known_only = false;
			break;
		}
		if (line[i].seen < oldest->seen)
			oldest = &line[i];
	}
	if (known_only)
		return;
	oldest->address = 0;
	put_mac(oldest->mac, mac);
	oldest->seen = now_seconds();
	*(volatile __u32 *)&oldest->address = address;
}

static __always_inline void learn6(const struct port *port, const __u32 *address, __u64 mac, bool known_only)
{
	struct neighbour6 *line = neighbour_line6(port, address), *oldest;

	if (!line || (known_only && !same6(line[0].address, address) && !same6(line[1].address, address)))
		return;
	oldest = same6(line[0].address, address)			  ? &line[0] :
		 same6(line[1].address, address) || line[1].seen < line[0].seen ? &line[1] :
										  &line[0];
	oldest->address[0] = 0;
	put_mac(oldest->mac, mac);
	oldest->seen = now_seconds();
	oldest->address[1] = address[1];
	oldest->address[2] = address[2];
	oldest->address[3] = address[3];
	*(volatile __u32 *)&oldest->address[0] = address[0];
}
