/* What the gateway may spend on one routing domain, as a token bucket. */
#pragma once

#include "maps.h"

#define NANOSECONDS_PER_SECOND 1000000000

/* Two CPUs may spend the same token; that is all they can do. */
static __always_inline bool spend(struct budget *budget, const __u32 per_second, const __u32 at_once)
{
	__u64 now = bpf_ktime_get_ns(), earned = (now - budget->refilled) / (NANOSECONDS_PER_SECOND / per_second);

	if (earned) {
		__u64 tokens = budget->tokens + earned;

		budget->tokens = tokens > at_once ? at_once : tokens;
		budget->refilled = now;
	}
	if (!budget->tokens)
		return false;
	budget->tokens--;
	return true;
}
