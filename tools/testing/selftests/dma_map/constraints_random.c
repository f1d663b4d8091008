// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random demands, and what free memory would have met, by brute force over
 * /proc/kpageflags.  Written from the contract, not from the kernel's code.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kselftest.h"
#include "constraints.h"

#define LONGEST		(16 * MIB)
#define LIMIT_FRAME	(LIMIT / PAGE_SIZE)
#define NO_FRAME	0x8000000000000ULL

/* xorshift64* */
static __u64 state;

static __u64 roll(__u64 sides)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 2685821657736338717ULL >> 16) % sides;
}

/* Each magnitude as likely as the others */
static __u64 roll_length(unsigned int least, unsigned int most)
{
	__u64 power = 1ULL << (least + roll(most - least + 1));

	return roll(2) ? power : power + roll(power);
}

static unsigned int nr_nodes(void)
{
	return access("/sys/devices/system/node/node1", F_OK) ? 1 : 2;
}

static void roll_demand(struct demand *demand)
{
	struct dma_constraints *c = &demand->c;

	demand->length = 1 + roll(roll_length(8, 23));
	demand->flags = (roll(3) ? 0 : MAP_CONTIGUOUS) |
			(roll(8) ? 0 : MAP_LIMITED);
	*c = CONSTRAINTS();
	if (!roll(3))
		c->addr_limit = roll_length(23, 36) - 1;
	if (!roll(3))
		c->alignment = 1ULL << roll(25);
	if (!roll(3))
		c->boundary = 1ULL << (11 + roll(22));
	if (!roll(3))
		c->min_len = roll_length(8, 20);
	if (!roll(3))
		c->max_len = roll_length(11, 22);
	if (!roll(4))
		c->max_entries = 1 + roll(64);
	if (!roll(4))
		c->node = roll(nr_nodes());
	if (!roll(4))
		c->flags = DMA_NO_RECLAIM;
}

/*
 * In page frames, with what is not constrained so that it does not count
 */
struct frames {
	__u64 nr, end, align, boundary, min, max;
};

static struct frames frames_of(const struct demand *demand)
{
	const struct dma_constraints *c = &demand->c;
	struct frames f = {
		.nr = page_align(demand->length) / PAGE_SIZE,
		.end = NO_FRAME, .align = 1, .boundary = NO_FRAME, .min = 1,
		.max = NO_FRAME,
	};

	if (c->addr_limit)
		f.end = (c->addr_limit + 1) / PAGE_SIZE;
	if (demand->flags & MAP_LIMITED && f.end > LIMIT_FRAME)
		f.end = LIMIT_FRAME;
	if (c->alignment > PAGE_SIZE)
		f.align = c->alignment / PAGE_SIZE;
	if (c->boundary)
		f.boundary = c->boundary / PAGE_SIZE;
	if (c->min_len)
		f.min = (c->min_len + PAGE_SIZE - 1) / PAGE_SIZE;
	if (c->max_len)
		f.max = c->max_len / PAGE_SIZE;
	return f;
}

static __u64 down(__u64 nr, __u64 unit)
{
	return nr - nr % unit;
}

static __u64 up(__u64 nr, __u64 unit)
{
	return down(nr + unit - 1, unit);
}

/* Is there any memory that could meet it? */
static bool contradicts_itself(const struct demand *demand)
{
	const struct dma_constraints *c = &demand->c;
	struct frames f = frames_of(demand);
	__u64 longest = f.max < f.boundary ? f.max : f.boundary;
	__u64 cut = longest ? down(longest, f.align) : 0;

	if ((c->boundary && c->boundary < PAGE_SIZE) ||
	    (c->max_len && c->max_len < PAGE_SIZE) || f.min > longest)
		return true;
	if (!(demand->flags & MAP_CONTIGUOUS) || f.nr <= longest)
		return false;
	/* What lies together has to be cut at multiples of the alignment */
	if (cut < up(f.min, f.align))
		return true;
	return f.nr > f.boundary && (f.boundary + cut - 1) / cut *
	       up(f.min, f.align) > f.boundary;
}

/*
 * Free memory
 */

/* By number, from the first one that was asked for on */
static __u8 *free_frames;

/* Which frames of [@begin, @end) are free, and to where that is told */
static __u64 read_free_frames(__u64 begin, __u64 end)
{
	static __u64 flags[4096];
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 frame = begin, nr;
	ssize_t got;

	free_frames = realloc(free_frames, end - begin);
	while (frame < end) {
		nr = end - frame < 4096 ? end - frame : 4096;
		got = pread(fd, flags, nr * sizeof(*flags),
			    frame * sizeof(*flags));
		if (got <= 0)
			break;
		for (size_t i = 0; i < got / sizeof(*flags); i++)
			free_frames[frame++ - begin] = flags[i] >> KPF_BUDDY & 1;
	}
	close(fd);
	return frame;
}

/* Where the first entry, or all of them, may begin: from @frame on */
static __u64 place(const struct frames *f, __u64 frame, __u64 nr)
{
	__u64 begin = up(frame, f->align);

	if (nr > f->boundary)
		return up(frame, f->align > f->boundary ? f->align :
							  f->boundary);
	if (begin / f->boundary != (begin + nr - 1) / f->boundary)
		begin = up(begin, f->align > f->boundary ? f->align :
							   f->boundary);
	return begin;
}

/* How many frames of a run of free ones can be entries, of @left still wanted */
static __u64 entries_in(const struct frames *f, __u64 begin, __u64 end,
			__u64 left)
{
	__u64 had = 0;

	for (begin = up(begin, f->align); begin < end && had < left;
	     begin = up(begin + 1, f->align)) {
		__u64 nr = f->boundary - begin % f->boundary;

		if (nr > f->max)
			nr = f->max;
		if (nr > end - begin)
			nr = end - begin;
		if (nr > left - had)
			nr = left - had;
		if (nr < f->min && nr < left - had)
			continue;
		had += nr;
		begin += nr - 1;
	}
	return had;
}

/* Zones: memory of a node, which nothing that lies together reaches beyond */
static struct zone {
	int node;
	__u64 begin, end;
	__u64 free;
	__u64 low;		/* below that many free pages, memory is short */
	__u64 kept[3];		/* for who must have them: from DMA, DMA32, others */
} zones[64];
static size_t nr_zones;

static void read_zones(void)
{
	FILE *info = fopen("/proc/zoneinfo", "r");
	__u64 spanned = 0, free = 0, low = 0, kept[3] = {}, begin;
	char line[256];
	int node = -1;

	nr_zones = 0;
	while (info && nr_zones < 64 && fgets(line, sizeof(line), info)) {
		if (sscanf(line, "Node %d, zone", &node) == 1 ||
		    sscanf(line, " pages free %llu", &free) == 1 ||
		    sscanf(line, " low %llu", &low) == 1 ||
		    sscanf(line, " spanned %llu", &spanned) == 1 ||
		    sscanf(line, " protection: (%llu, %llu, %llu", &kept[0],
			   &kept[1], &kept[2]) == 3 ||
		    sscanf(line, " start_pfn: %llu", &begin) != 1 || !spanned)
			continue;
		zones[nr_zones++] = (struct zone){
			.node = node, .begin = begin, .end = begin + spanned,
			.free = free, .low = low,
			.kept = { kept[0], kept[1], kept[2] },
		};
	}
	if (info)
		fclose(info);
}

/* How much of a zone would have met it, up to all of it */
static __u64 zone_meets(const struct zone *zone, const struct frames *f,
			bool contiguous)
{
	const __u64 begin = zone->begin;
	__u64 end = f->end < zone->end ? f->end : zone->end;
	__u64 had = 0, next;

	if (end <= begin)
		return 0;
	end = read_free_frames(begin, end);
	for (__u64 frame = begin; frame < end && had < f->nr;
	     frame = next + 1) {
		for (next = frame; next < end && free_frames[next - begin];
		     next++)
			;
		if (!contiguous)
			had += entries_in(f, frame, next, f->nr - had);
		else if (place(f, frame, f->nr) + f->nr <= next)
			had = f->nr;
	}
	return had;
}

/*
 * Would free memory have met it, with so much left as the kernel keeps?  Memory
 * below 16 MiB is for who asks for it.
 */
static bool free_memory_meets(const struct demand *demand)
{
	const struct frames f = frames_of(demand);
	const int class = f.end <= LIMIT_FRAME ? 0 :
			  f.end <= 256 * LIMIT_FRAME ? 1 : 2;
	__u64 had = 0;

	read_zones();
	for (size_t i = 0; i < nr_zones && had < f.nr; i++) {
		const struct zone *zone = &zones[i];
		bool low = zone->end <= LIMIT_FRAME;

		if ((demand->c.node >= 0 && zone->node != demand->c.node) ||
		    (low && f.end > LIMIT_FRAME) ||
		    zone->free < f.nr + zone->low + zone->kept[class])
			continue;
		had += zone_meets(zone, &f, demand->flags & MAP_CONTIGUOUS);
	}
	return had >= f.nr;
}

/*
 * One demand after the other
 */

static void tell_demand(const char *what, const struct demand *demand)
{
	const struct dma_constraints *c = &demand->c;

	printf("# %s: length %#zx, flags %#x, node %d, flags %#x\n", what,
	       demand->length, demand->flags, c->node, c->flags);
	printf("# limit %#llx, align %#llx, boundary %#llx, length %#llx to %#llx, %llu entries\n",
	       c->addr_limit, c->alignment, c->boundary, c->min_len,
	       c->max_len, c->max_entries);
}

static void failed(struct outcome *outcome, const struct demand *demand,
		   int error)
{
	switch (error) {
	case EINVAL:
		outcome->contradictory++;
		if (contradicts_itself(demand))
			return;
		break;
	case ENOSPC:
		outcome->too_many++;
		if (demand->c.max_entries &&
		    demand->c.nr_entries > demand->c.max_entries)
			return;
		break;
	case ENOMEM:
		outcome->not_had++;
		if (!free_memory_meets(demand))
			return;
		outcome->falsely++;
		tell_demand("free memory would have met", demand);
		return;
	}
	outcome->broken++;
	tell_demand(strerror(error), demand);
}

void random_demands(unsigned long nr, __u64 seed, struct outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	state = seed * 2 + 1;
	for (unsigned long i = 0; i < nr; i++) {
		struct demand demand;
		const char *broken;
		void *addr;

		roll_demand(&demand);
		addr = dma_map_constrained(demand.length, demand.flags |
					   MAP_SHARED, table, &demand.c);
		if (addr == MAP_FAILED) {
			failed(outcome, &demand, errno);
			continue;
		}
		outcome->met++;
		broken = broken_constraint(table, demand.c.nr_entries,
					   demand.length, demand.flags,
					   &demand.c);
		if (!broken && contradicts_itself(&demand))
			broken = "contradicts itself";
		if (broken) {
			outcome->broken++;
			tell_demand(broken, &demand);
		}
		munmap(addr, page_align(demand.length));
	}
}

/*
 * Memory in pieces that cannot be moved: of small buffers every other one or so
 * is given back
 */
void break_up_memory(__u64 seed)
{
	static struct { void *addr; size_t length; } piece[16384];
	static dma_entry_t entry[256];
	size_t nr = 0;
	long least;

	state = seed * 2 + 1;
	/* Where less is free, page tables have the OOM killer come */
	least = total_pages() / 4 + vm_event("nr_free_cma");
	while (nr < ARRAY_SIZE(piece) && (nr % 64 || free_pages() > least)) {
		piece[nr].length = (1 + roll(256)) * PAGE_SIZE;
		piece[nr].addr = dma_map(NULL, piece[nr].length, RW, MAP_SHARED,
					 entry);
		if (piece[nr].addr == MAP_FAILED)
			break;
		nr++;
	}
	while (nr--)
		if (roll(2))
			munmap(piece[nr].addr, piece[nr].length);
}
