/* A packet of a routing domain, parsed, in the first program: nearly all leave from here, others are handed on. */
#pragma once

#include "depart.h"
#include "known_translations.h"
#include "new_flows.h"

/* What nearly all packets are: IPv4, whole, of a domain with neither access lists nor services. Only the route decides about them. */
static __always_inline bool is_only_routed(const struct packet *p, const struct directory *directory)
{
	return !(p->six | p->fragment | table_of(p)->flags) && p->domain != directory->internet;
}

static __always_inline int pass_routed(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	p->six = 0; /* said once more for the compiler, which then leaves out all that is asked about others */
	p->fragment = 0;
	p->translated = 0;
	int verdict = decide(ctx, p);

	if (p->service) {
		continue_in(ctx, p, STAGE_BALANCE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	return conclude(ctx, p, directory, verdict);
}

static __always_inline int pass_any(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	struct standing standing;
	__u32 hash = is_plain(p) && table_of(p)->flags & TABLE_LISTS ? expect_flow(p) : 0;

	forget_word(hash);
	int verdict = take_standing(p, directory, &standing);

	if (verdict)
		return done(ctx, p, verdict);
	forget(p->translated);
	verdict = decide(ctx, p);
	if (!verdict && p->translated && standing.is_new)
		enter_standing(standing.place, standing.word, standing.key, standing.new_word);
	else if (!verdict && p->translated)
		touch_standing(standing.place, standing.word, standing.from_client, p->tcp_flags);
	if (needs_service(p, verdict)) {
		continue_in(ctx, p, STAGE_BALANCE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (!verdict && !p->local && !p->translated && table_of(p)->flags & TABLE_LISTS) {
		verdict = admit_plain(p, hash);
		if (verdict == VERDICT_CONSUMED) {
			continue_in(ctx, p, STAGE_ADMIT, VERDICT_NONE);
			verdict = DROP_INTERNAL;
		}
		if (verdict)
			return done(ctx, p, verdict);
	}
	return conclude(ctx, p, directory, verdict);
}
