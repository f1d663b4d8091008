// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a table meets what was asked for; see constraints.h.  Written from the
 * contract, not from the kernel's code.
 */
#include "constraints.h"

static bool crosses(__u64 begin, __u64 len, __u64 boundary)
{
	return boundary && begin / boundary != (begin + len - 1) / boundary;
}

/* What an entry by itself must keep */
static const char *broken_by_entry(const dma_entry_t *entry, bool last,
				   int flags, const struct dma_constraints *c)
{
	__u64 begin = entry->physaddr, len = entry->len;

	if (c->addr_limit && begin + len - 1 > c->addr_limit)
		return "addr_limit";
	if (flags & MAP_LIMITED && begin + len > LIMIT)
		return "MAP_LIMITED";
	if (c->alignment && begin % c->alignment)
		return "alignment";
	if (crosses(begin, len, c->boundary))
		return "boundary";
	if (!last && len < c->min_len)
		return "min_len";
	if (c->max_len && len > c->max_len)
		return "max_len";
	return NULL;
}

/* Two that lie together are two because they cannot be one */
static bool could_be_one(const dma_entry_t *entry,
			 const struct dma_constraints *c)
{
	__u64 begin = entry[0].physaddr, len = entry[0].len + entry[1].len;

	return begin + entry[0].len == entry[1].physaddr &&
	       !(c->max_len && len > c->max_len) &&
	       !crosses(begin, len, c->boundary);
}

const char *broken_constraint(const dma_entry_t *entry, size_t nr,
			      size_t length, int flags,
			      const struct dma_constraints *c)
{
	const char *broken;

	if (!nr || entries(entry, length) != nr)
		return "length";
	if (nr > (c->max_entries ?: DMA_TABLE_MAX(length)))
		return "max_entries";
	if (c->nr_entries != nr)
		return "nr_entries";
	for (size_t i = 0; i < nr; i++) {
		broken = broken_by_entry(&entry[i], i + 1 == nr, flags, c);
		if (broken)
			return broken;
		if (i + 1 == nr)
			break;
		if (could_be_one(&entry[i], c))
			return "mergeable";
		if (flags & MAP_CONTIGUOUS && (__u64)entry[i].physaddr +
		    entry[i].len != entry[i + 1].physaddr)
			return "MAP_CONTIGUOUS";
	}
	return NULL;
}
