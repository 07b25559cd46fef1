/* Internet checksums (RFC 1071), and how they follow a change (RFC 1624). */
#pragma once

#include <linux/types.h>

static __always_inline __u16 fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u64 sum_words(const __u32 *words, int count)
{
	__u64 sum = 0;

	for (int i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* `check` after words with the folded sum `from` became words with the folded sum `to`. */
static __always_inline __u16 exchange_sum(__u16 check, __u16 from, __u16 to)
{
	return ~fold_sum((__u64)(__u16)~check + (__u16)~from + to);
}
